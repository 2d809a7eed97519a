#include "server/generate_reactors.h"

#include <utility>

namespace image_variations {

namespace v1 = imagevariations::v1;

// Places for all variations, so that each is written by its own thread without a lock.
void UnaryReactor::OnAdmitted(v1::Admitted /*admitted*/, int sample_count) {
  answer_ = answers_.Open();
  for (int i = 0; i < sample_count; ++i) response_.add_variations();
}

void UnaryReactor::OnVariation(v1::Variation variation) {
  v1::Variation& place = *response_.mutable_variations(variation.index());
  place = std::move(variation);
}

void UnaryReactor::OnEnd(absl::StatusOr<v1::Completed> completed) {
  if (completed.ok()) {
    *response_.mutable_parameters() = std::move(*completed->mutable_parameters());
    *response_.mutable_metrics() = std::move(*completed->mutable_metrics());
    record_.OnMessageSent();
  }
  share_.caller = {};  // before the answer, on which the caller may call again
  Finish(record_.End(completed.status()));
}

void StreamReactor::OnAdmitted(v1::Admitted admitted, int /*sample_count*/) {
  answer_ = answers_.Open();
  v1::StreamVariationsResponse event;
  *event.mutable_admitted() = std::move(admitted);
  Write(std::move(event));
}

void StreamReactor::OnVariation(v1::Variation variation) {
  v1::StreamVariationsResponse event;
  *event.mutable_variation() = std::move(variation);
  Write(std::move(event));
}

void StreamReactor::OnProgress(v1::Progress progress) {
  if (!wants_progress_) return;
  {
    absl::MutexLock lock(&mutex_);
    progress_ = std::move(progress);
  }
  Advance(/*may_encode=*/false);
}

// Another codec thread may have been quicker with a later one.
void StreamReactor::OnPreview(PreviewPicture preview) {
  if (!wants_previews_) return;
  {
    absl::MutexLock lock(&mutex_);
    int& latest = preview_steps_[preview.index];
    if (preview.step <= latest) return;
    latest = preview.step;
    previews_.insert_or_assign(preview.index, std::move(preview));
  }
  Advance();
}

void StreamReactor::OnEnd(absl::StatusOr<v1::Completed> completed) {
  {
    absl::MutexLock lock(&mutex_);
    progress_.reset();
    previews_.clear();
    end_ = completed.status();
    if (completed.ok()) *waiting_.emplace_back().mutable_completed() = *std::move(completed);
  }
  Advance();
}

void StreamReactor::OnWriteDone(bool ok) {
  if (ok) record_.OnMessageSent();
  if (!ok && cancel_) cancel_();
  {
    absl::MutexLock lock(&mutex_);
    is_writing_ = false;
    is_broken_ = is_broken_ || !ok;
  }
  Advance();
}

void StreamReactor::Write(v1::StreamVariationsResponse event) {
  {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(std::move(event));
  }
  Advance(/*may_encode=*/false);
}

// In turn, so that every sample is seen by a reader that is slower than the steps.
PreviewPicture StreamReactor::TakePreview() {
  auto next = previews_.upper_bound(last_preview_);
  if (next == previews_.end()) next = previews_.begin();
  last_preview_ = next->first;
  return std::move(previews_.extract(next).mapped());
}

void StreamReactor::Advance(bool may_encode) {
  std::optional<absl::Status> end;
  std::optional<PreviewPicture> preview;
  {
    absl::MutexLock lock(&mutex_);
    if (is_writing_) return;
    if (is_broken_) {
      waiting_.clear();
      progress_.reset();
      previews_.clear();
    }
    if (!waiting_.empty()) {
      written_ = std::move(waiting_.front());
      waiting_.pop_front();
    } else if (progress_) {
      *written_.mutable_progress() = *std::exchange(progress_, std::nullopt);
    } else if (!previews_.empty()) {
      if (!may_encode) return;  // who brought it, or ended the write before it, comes here next
      preview = TakePreview();
    } else if (end_) {
      end.swap(end_);
    } else {
      return;
    }
    is_writing_ = true;
  }
  if (end) {
    share_.caller = {};
    Finish(record_.End(*end));
    return;
  }
  if (preview) {
    absl::StatusOr<v1::Preview> encoded = EncodePreview(*preview);
    if (!encoded.ok()) {
      {
        absl::MutexLock lock(&mutex_);
        is_writing_ = false;  // there is no memory for it: left out
      }
      Advance();
      return;
    }
    *written_.mutable_preview() = *std::move(encoded);
  }
  StartWrite(&written_);
}

}  // namespace image_variations
