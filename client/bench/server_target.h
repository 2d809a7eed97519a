#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/bench/load_target.h"
#include "client/client.h"

namespace image_variations::client {

// A real server. Answers are stamped as they arrive, on the client library's threads: a driver that
// is late does not make them late.
class ServerTarget final : public LoadTarget {
 public:
  // `now` may be called by any thread. `client` must outlive this.
  ServerTarget(const Client& client, std::function<absl::Time()> now);
  ~ServerTarget() override;  // cancels what runs and waits for its end

  absl::Time Now() override { return now_(); }
  void Send(int64_t id, VariationRequest) override;
  std::vector<Answer> WaitForAnswers(absl::Time until) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel(int64_t id) override;

 private:
  bool has_answers() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !answers_.empty(); }
  void Post(Answer) ABSL_LOCKS_EXCLUDED(mutex_);

  const Client& client_;
  const std::function<absl::Time()> now_;
  std::map<int64_t, StartedCall> running_;  // by the driver's thread alone
  absl::Mutex mutex_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace image_variations::client
