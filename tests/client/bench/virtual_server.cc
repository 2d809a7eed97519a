#include "tests/client/bench/virtual_server.h"

#include <algorithm>
#include <utility>

#include "client/conversion.h"
#include "pipeline/base/status_macros.h"
#include "tests/client/fake_variation_server.h"

namespace image_variations::client {

VirtualServer::VirtualServer(VirtualServerOptions options)
    : options_(std::move(options)), free_at_(static_cast<size_t>(options_.workers), now_) {}

void VirtualServer::Send(int64_t id, VariationRequest request) {
  now_ += options_.sending_time(id);
  const auto running = std::distance(answers_.upper_bound(now_), answers_.end());
  Answer answer{.id = id, .at = now_, .result = absl::UnknownError("")};
  if (running >= options_.max_requests) {
    answer.at += absl::Milliseconds(1);
    answer.result = FromGrpc(
        Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", absl::Seconds(1)));
  } else {
    answer = Serve(id, request);
    most_at_a_time_ = std::max(most_at_a_time_, static_cast<int>(running) + 1);
  }
  if (answer.at > request.deadline) {
    answer.at = request.deadline;
    answer.result = absl::DeadlineExceededError("deadline");
  }
  for (int i = 0; i < options_.answers(id); ++i) answers_.emplace(answer.at, answer);
  requests_.push_back(std::move(request));
}

Answer VirtualServer::Serve(int64_t id, const VariationRequest& request) {
  absl::Time& worker = *std::min_element(free_at_.begin(), free_at_.end());
  worker = std::max(worker, now_) + options_.service_time(id);
  VariationResult result;
  for (int i = 0; i < request.sample_count; ++i) {
    result.variations.push_back(
        {.index = i, .outcome = Outcome::kGenerated, .image = options_.make_image(id)});
  }
  result.parameters.request_id = request.request_id;
  result.metrics.unet_rows = 50;
  result.metrics.mean_batch_rows = 5;
  return {.id = id,
          .at = worker,
          .result = std::move(result),
          .admission = Admission{
              .at = now_,
              .admitted = {.predicted_finish = (worker - now_) * options_.prediction_factor}}};
}

std::vector<Answer> VirtualServer::WaitForAnswers(absl::Time until) {
  const absl::Time next = answers_.empty() ? absl::InfiniteFuture() : answers_.begin()->first;
  IV_CHECK(std::min(until, next) < absl::InfiniteFuture());
  now_ = std::max(now_, std::min(until, next));
  std::vector<Answer> answers;
  while (!answers_.empty() && answers_.begin()->first <= now_) {
    answers.push_back(std::move(answers_.extract(answers_.begin()).mapped()));
  }
  return answers;
}

void VirtualServer::Cancel(int64_t id) {
  const auto found = std::find_if(answers_.begin(), answers_.end(),
                                  [id](const auto& each) { return each.second.id == id; });
  if (found == answers_.end()) return;
  Answer answer = std::move(answers_.extract(found).mapped());
  answer.at = now_;
  answer.result = absl::CancelledError("cancelled");
  answers_.emplace(now_, std::move(answer));
}

}  // namespace image_variations::client
