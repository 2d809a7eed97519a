#include "server/shared_reply.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc_status.h"

namespace image_variations {

namespace v1 = imagevariations::v1;

namespace {

absl::Status StoppedByAnEarlierDeadline() {
  return WithRetryDelay(
      MakeError(absl::StatusCode::kUnavailable, reason::kDeadlinePassed,
                "an earlier call with this request_id had a deadline, which stopped the work"),
      absl::ZeroDuration());
}

}  // namespace

SharedReply::SharedReply(std::string image, absl::Time deadline, int max_listeners,
                         std::function<void(SharedReply&, bool)> when_ended)
    : image_(std::move(image)),
      deadline_(deadline),
      max_listeners_(max_listeners),
      when_ended_(std::move(when_ended)) {}

void SharedReply::BeginWith(std::function<void()> cancel_work) {
  absl::MutexLock lock(&mutex_);
  self_ = shared_from_this();
  cancel_work_ = std::move(cancel_work);
}

absl::StatusOr<bool> SharedReply::Listen(GenerateReply& listener, absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  if (is_given_up_ || (end_ && !end_->ok())) return false;
  if (static_cast<int>(listeners_.size()) >= max_listeners_) {
    return WithRetryDelay(
        MakeError(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                  absl::StrCat(max_listeners_, " calls wait for this request_id already"),
                  {{"limit", absl::StrCat(max_listeners_)}}),
        absl::Seconds(1));
  }
  if (admitted_) listener.OnAdmitted(*admitted_, sample_count_);
  for (const v1::Variation& variation : variations_) listener.OnVariation(variation);
  if (end_) {
    listener.OnEnd(*end_);
  } else {
    listeners_.push_back({&listener, deadline});
  }
  return true;
}

void SharedReply::Leave(GenerateReply& listener, const absl::Status& why) {
  std::function<void()> cancel_work;
  {
    absl::MutexLock lock(&mutex_);
    const auto place = std::find_if(listeners_.begin(), listeners_.end(),
                                    [&](const Listener& l) { return l.reply == &listener; });
    if (place == listeners_.end()) return;
    if (listeners_.size() > 1) {
      listeners_.erase(place);
      listener.OnEnd(why);
      return;
    }
    is_given_up_ = true;
    cancel_work = cancel_work_;
  }
  if (cancel_work) cancel_work();
}

int64_t SharedReply::bytes() const {
  absl::MutexLock lock(&mutex_);
  int64_t bytes = 0;
  for (const v1::Variation& variation : variations_) {
    bytes += static_cast<int64_t>(variation.image().capacity());
  }
  return bytes;
}

void SharedReply::OnAdmitted(v1::Admitted admitted, int sample_count) {
  absl::MutexLock lock(&mutex_);
  for (const Listener& listener : listeners_) listener.reply->OnAdmitted(admitted, sample_count);
  sample_count_ = sample_count;
  admitted_ = std::move(admitted);
  admitted_->clear_predicted_start();  // these hold now, not for those who come later
  admitted_->clear_predicted_finish();
  admitted_->clear_samples_ahead();
}

void SharedReply::OnProgress(v1::Progress progress) {
  absl::MutexLock lock(&mutex_);
  for (const Listener& listener : listeners_) listener.reply->OnProgress(progress);
}

void SharedReply::OnPreview(PreviewPicture preview) {
  absl::MutexLock lock(&mutex_);
  for (const Listener& listener : listeners_) listener.reply->OnPreview(preview);
}

void SharedReply::OnVariation(v1::Variation variation) {
  absl::MutexLock lock(&mutex_);
  for (const Listener& listener : listeners_) listener.reply->OnVariation(variation);
  variations_.push_back(std::move(variation));
}

void SharedReply::OnEnd(absl::StatusOr<v1::Completed> completed) {
  std::shared_ptr<SharedReply> self;
  std::function<void()> cancel_work;  // dies outside the lock: it may own the work
  const bool ok = completed.ok();
  {
    absl::MutexLock lock(&mutex_);
    self = std::move(self_);
    cancel_work = std::move(cancel_work_);
    for (const Listener& listener : listeners_) {
      const bool has_time_left = listener.deadline > deadline_;
      if (absl::IsDeadlineExceeded(completed.status()) && has_time_left) {
        listener.reply->OnEnd(StoppedByAnEarlierDeadline());
      } else {
        listener.reply->OnEnd(completed);
      }
    }
    listeners_.clear();
    std::string().swap(image_);  // clear() would keep its memory as long as the answer
    end_ = std::move(completed);
  }
  when_ended_(*this, ok);
}

}  // namespace image_variations
