#include "server/generate_reactors.h"

#include <utility>

namespace image_variations {

namespace v1 = imagevariations::v1;

// Places for all variations, so that each is written by its own thread without a lock.
void UnaryReactor::OnAdmitted(v1::Admitted /*admitted*/, int sample_count) {
  OpenAnswer();
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
    OnMessageSent();
  }
  Finish(End(completed.status()));
}

void StreamReactor::OnAdmitted(v1::Admitted admitted, int /*sample_count*/) {
  OpenAnswer();
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
  Step step;
  {
    absl::MutexLock lock(&mutex_);
    progress_ = std::move(progress);
    step = NextStep();
  }
  Take(step);
}

void StreamReactor::OnPreview(PreviewPicture preview) {
  if (!wants_previews_) return;
  Step step;
  {
    absl::MutexLock lock(&mutex_);
    previews_.insert_or_assign(preview.index, std::move(preview));
    step = NextStep();
  }
  Take(step);
}

void StreamReactor::OnEnd(absl::StatusOr<v1::Completed> completed) {
  Step step;
  {
    absl::MutexLock lock(&mutex_);
    progress_.reset();
    previews_.clear();
    end_ = completed.status();
    if (completed.ok()) *waiting_.emplace_back().mutable_completed() = *std::move(completed);
    step = NextStep();
  }
  Take(step);
}

void StreamReactor::OnWriteDone(bool ok) {
  if (ok) {
    OnMessageSent();
  } else {
    CancelWork();
  }
  Step step;
  {
    absl::MutexLock lock(&mutex_);
    is_writing_ = false;
    is_broken_ = is_broken_ || !ok;
    step = NextStep();
  }
  Take(step);
}

StreamReactor::Step StreamReactor::NextStep() {
  if (is_writing_) return Step::kNone;
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
  } else if (is_encoder_called_ || (previews_.empty() && !end_)) {
    return Step::kNone;
  } else if (!previews_.empty()) {
    is_encoder_called_ = true;
    return Step::kEncode;
  } else {
    is_writing_ = true;
    return Step::kEnd;
  }
  is_writing_ = true;
  return Step::kWrite;
}

void StreamReactor::Take(Step step) {
  switch (step) {
    case Step::kNone:
      return;
    case Step::kWrite:
      StartWrite(&written_);
      return;
    case Step::kEncode:
      codecs_.Run([this] { WritePreview(); });
      return;
    case Step::kEnd:
      FinishAsKnown();
      return;
  }
}

void StreamReactor::FinishAsKnown() {
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = *end_;
  }
  Finish(End(status));
}

void StreamReactor::Write(v1::StreamVariationsResponse event) {
  Step step;
  {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(std::move(event));
    step = NextStep();
  }
  Take(step);
}

// Codec thread. Which preview is chosen here: while the call was in line newer ones came.
void StreamReactor::WritePreview() {
  std::optional<PreviewPicture> preview;
  Step step = Step::kNone;
  {
    absl::MutexLock lock(&mutex_);
    is_encoder_called_ = false;
    if (is_writing_ || previews_.empty()) {
      step = NextStep();
    } else {
      preview = TakePreview();
      is_writing_ = true;
    }
  }
  if (preview) {
    absl::StatusOr<v1::Preview> encoded = EncodePreview(*preview);
    absl::MutexLock lock(&mutex_);
    if (encoded.ok()) {
      *written_.mutable_preview() = *std::move(encoded);
      step = Step::kWrite;
    } else {
      is_writing_ = false;  // there is no memory for it: left out
      step = NextStep();
    }
  }
  Take(step);
}

// In turn, so that every sample is seen by a reader that is slower than the steps.
PreviewPicture StreamReactor::TakePreview() {
  auto next = previews_.upper_bound(last_preview_);
  if (next == previews_.end()) next = previews_.begin();
  last_preview_ = next->first;
  return std::move(previews_.extract(next).mapped());
}

}  // namespace image_variations
