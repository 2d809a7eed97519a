#include "server/request_ledger.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/sha256.h"
#include "pipeline/base/status_macros.h"
#include "server/rpc_status.h"

namespace image_variations {

namespace v1 = imagevariations::v1;

constexpr int64_t kBytesOfAnEntry = 4 << 10;  // without pictures

absl::StatusOr<RequestLedger::Claim> RequestLedger::Join(
    const std::string& caller, const v1::GenerateVariationsRequest& request, absl::Time deadline,
    GenerateReply& listener) {
  const Key key(caller, request.request_id());
  const std::string content = Sha256OfText(request.SerializeAsString());
  for (;;) {
    std::shared_ptr<SharedReply> work;
    {
      absl::MutexLock lock(&mutex_);
      ForgetWhatIsTooMuch();
      const auto found = entries_.find(key);
      if (found == entries_.end()) {
        const Entry& entry = entries_[key] = NewEntry(key, request.image(), content, deadline);
        RETURN_IF_ERROR(entry.work->Listen(listener, deadline).status());
        return Claim{entry.work, /*is_new=*/true};
      }
      if (found->second.content != content) {
        return MakeError(
            absl::StatusCode::kInvalidArgument, reason::kRequestIdReused,
            absl::StrCat("request_id ", key.second, " belongs to another request; draw a new one"),
            {{"request_id", key.second}});
      }
      work = found->second.work;
    }
    ASSIGN_OR_RETURN(const bool listens, work->Listen(listener, deadline));
    if (listens) return Claim{std::move(work), /*is_new=*/false};
    Forget(key, *work);
  }
}

int64_t RequestLedger::kept_bytes() const {
  absl::MutexLock lock(&mutex_);
  return kept_bytes_;
}

RequestLedger::Entry RequestLedger::NewEntry(const Key& key, const std::string& image,
                                             std::string content, absl::Time deadline) {
  const auto when_ended = [this, key](const SharedReply& work, bool ok) { OnEnded(key, work, ok); };
  return {std::move(content), std::make_shared<SharedReply>(
                                  image, deadline, options_.max_calls_per_request, when_ended)};
}

void RequestLedger::OnEnded(const Key& key, const SharedReply& work, bool ok) {
  if (!ok) {
    Forget(key, work);
    return;
  }
  const int64_t bytes = work.bytes() + kBytesOfAnEntry;
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.work.get() != &work) return;
  found->second.kept_bytes = bytes;
  kept_bytes_ += bytes;
  answered_.push_back({clock_.Now(), key});
  ForgetWhatIsTooMuch();
}

void RequestLedger::Forget(const Key& key, const SharedReply& work) {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(key);
  if (found != entries_.end() && found->second.work.get() == &work) entries_.erase(found);
}

void RequestLedger::ForgetWhatIsTooMuch() {
  const absl::Time oldest = clock_.Now() - options_.max_age;
  while (!answered_.empty() &&
         (kept_bytes_ > options_.max_bytes || answered_.front().when < oldest)) {
    const auto entry = entries_.find(answered_.front().key);
    kept_bytes_ -= entry->second.kept_bytes;
    entries_.erase(entry);
    answered_.pop_front();
  }
}

}  // namespace image_variations
