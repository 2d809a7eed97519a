#include "client/bench/server_target.h"

#include <memory>
#include <optional>
#include <utility>

namespace image_variations::client {

ServerTarget::ServerTarget(const Client& client, std::function<absl::Time()> now)
    : client_(client), now_(std::move(now)) {}

ServerTarget::~ServerTarget() {
  for (const auto& [id, call] : running_) call.Cancel();
  while (!running_.empty()) WaitForAnswers(absl::InfiniteFuture());
}

void ServerTarget::Send(int64_t id, VariationRequest request) {
  const auto admission = std::make_shared<std::optional<Admission>>();
  running_.emplace(
      id, client_.StartVary(std::move(request),
                            {.on_admitted =
                                 [this, admission](const Admitted& admitted) {
                                   *admission = {.at = now_(), .admitted = admitted};
                                 },
                             .on_end =
                                 [this, id, admission](absl::StatusOr<VariationResult> result) {
                                   Post({.id = id,
                                         .at = now_(),
                                         .result = std::move(result),
                                         .admission = std::move(*admission)});
                                 }}));
}

std::vector<Answer> ServerTarget::WaitForAnswers(absl::Time until) {
  std::vector<Answer> answers;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &ServerTarget::has_answers), until - now_());
    answers.swap(answers_);
  }
  for (const Answer& answer : answers) running_.erase(answer.id);
  return answers;
}

void ServerTarget::Cancel(int64_t id) {
  if (const auto call = running_.find(id); call != running_.end()) call->second.Cancel();
}

void ServerTarget::Post(Answer answer) {
  absl::MutexLock lock(&mutex_);
  answers_.push_back(std::move(answer));
}

}  // namespace image_variations::client
