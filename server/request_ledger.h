// Which request_ids are at work or were answered lately, so that a repeated request costs nothing
// and is answered the same.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "imagevariations/v1/image_variations.pb.h"
#include "pipeline/base/clock.h"
#include "server/shared_reply.h"

namespace image_variations {

struct RequestLedgerOptions {
  // Of answers that are kept for repeated requests; the oldest go first. 0: none are kept.
  int64_t max_bytes = int64_t{128} << 20;
  absl::Duration max_age = absl::Minutes(10);
  // Calls that wait for one request's work at a time.
  int max_calls_per_request = 8;
};

// Thread-safe. `clock` outlives it, and it the works that it made.
class RequestLedger {
 public:
  RequestLedger(RequestLedgerOptions options, const Clock& clock)
      : options_(options), clock_(clock) {}

  // The work that `listener` now listens to. `is_new`: nobody does it yet; it is yours to start.
  struct Claim {
    std::shared_ptr<SharedReply> work;
    bool is_new = false;
  };
  // Ids of one caller mean nothing to another. INVALID_ARGUMENT REQUEST_ID_REUSED: a request of
  // this caller with this id and other content is at work or was answered lately.
  // RESOURCE_EXHAUSTED: too many calls wait for it.
  absl::StatusOr<Claim> Join(const std::string& caller,
                             const imagevariations::v1::GenerateVariationsRequest&,
                             absl::Time deadline, GenerateReply& listener)
      ABSL_LOCKS_EXCLUDED(mutex_);

  int64_t kept_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    std::string content;  // digest
    std::shared_ptr<SharedReply> work;
    int64_t kept_bytes = 0;  // once answered
  };
  using Key = std::pair<std::string, std::string>;  // caller, request_id
  struct Answered {
    absl::Time when;
    Key key;
  };

  Entry NewEntry(const Key&, const std::string& image, std::string content, absl::Time deadline);
  void OnEnded(const Key&, const SharedReply&, bool ok) ABSL_LOCKS_EXCLUDED(mutex_);
  // Unless somebody began it anew.
  void Forget(const Key&, const SharedReply&) ABSL_LOCKS_EXCLUDED(mutex_);
  void ForgetWhatIsTooMuch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RequestLedgerOptions options_;
  const Clock& clock_;
  mutable absl::Mutex mutex_;
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::list<Answered> answered_ ABSL_GUARDED_BY(mutex_);  // oldest first
  int64_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace image_variations
