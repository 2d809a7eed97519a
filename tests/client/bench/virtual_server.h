// A server in virtual time: workers that serve one line, first come first served.
#pragma once

#include <climits>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/bench/load_target.h"

namespace image_variations::client {

struct VirtualServerOptions {
  int workers = 1;
  std::function<absl::Duration(int64_t id)> service_time = [](int64_t) {
    return absl::Milliseconds(100);
  };
  int max_requests = INT_MAX;  // at work and in line; one more is refused: come back in 1 s
  // What sending takes the sender: nobody else can do anything meanwhile.
  std::function<absl::Duration(int64_t id)> sending_time = [](int64_t) {
    return absl::ZeroDuration();
  };
  double prediction_factor = 1;  // predicted / real time
  std::function<std::string(int64_t id)> make_image = [](int64_t) { return "image"; };
  // How often an id is answered.
  std::function<int(int64_t id)> answers = [](int64_t) { return 1; };
};

// Time passes in WaitForAnswers, and in Send if sending takes any. Waiting for what never comes
// ends the test program. Thread-compatible.
class VirtualServer final : public LoadTarget {
 public:
  explicit VirtualServer(VirtualServerOptions);

  absl::Time Now() override { return now_; }
  void Send(int64_t id, VariationRequest) override;
  std::vector<Answer> WaitForAnswers(absl::Time until) override;
  void Cancel(int64_t id) override;

  int most_at_a_time() const { return most_at_a_time_; }
  const std::vector<VariationRequest>& requests() const { return requests_; }

 private:
  Answer Serve(int64_t id, const VariationRequest&);

  const VirtualServerOptions options_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000'000);
  std::vector<absl::Time> free_at_;  // by worker
  std::multimap<absl::Time, Answer> answers_;
  int most_at_a_time_ = 0;
  std::vector<VariationRequest> requests_;
};

}  // namespace image_variations::client
