#include "server/engine_thread.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {

EngineThread::EngineThread(EngineOptions options, ModelRunnerFactory factory, const Clock& clock,
                           EngineObserver& observer)
    : options_(std::move(options)), clock_(clock), observer_(observer) {
  thread_ =
      std::thread([this, factory = std::move(factory)]() mutable { Run(std::move(factory)); });
}

EngineThread::~EngineThread() {
  {
    absl::MutexLock lock(&mutex_, absl::Condition(&is_known_));
    stopping_ = true;
    if (engine_.ok()) (*engine_)->Wake();  // under the lock: Run does not destroy it before
  }
  thread_.join();
}

absl::StatusOr<Engine*> EngineThread::WaitUntilWarm() {
  absl::MutexLock lock(&mutex_, absl::Condition(&is_known_));
  return engine_;
}

void EngineThread::Run(ModelRunnerFactory factory) {
  absl::StatusOr<std::unique_ptr<Engine>> engine = MakeWarmEngine(std::move(factory));
  if (!engine.ok()) {
    Publish(engine.status());
    return;
  }
  Publish(engine->get());
  while (!stopping_) {
    if (!(*engine)->RunTick()) (*engine)->WaitForMail(absl::InfiniteFuture());
  }
  Publish(absl::UnavailableError("the engine has ended"));
}

absl::StatusOr<std::unique_ptr<Engine>> EngineThread::MakeWarmEngine(ModelRunnerFactory factory) {
  ASSIGN_OR_RETURN(std::unique_ptr<ModelRunner> runner, std::move(factory)());
  if (options_.safety == SafetyMode::kRequired && !runner->info().has_safety_checker) {
    return absl::FailedPreconditionError(
        absl::StrCat("the model ", runner->info().model_id,
                     " has no safety checker: start with --safety off to serve its pictures "
                     "unchecked"));
  }
  auto engine = std::make_unique<Engine>(options_, std::move(runner), clock_, observer_);
  RETURN_IF_ERROR(engine->WarmUp());
  return engine;
}

void EngineThread::Publish(absl::StatusOr<Engine*> engine) {
  absl::MutexLock lock(&mutex_);
  engine_ = std::move(engine);
  is_known_ = true;
}

}  // namespace image_variations
