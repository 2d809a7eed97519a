#include "tests/support/simulated_requests.h"

#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"

namespace image_variations {

Asked DrawRequest(const SimulationOptions& options, int number, absl::Time now,
                  std::mt19937_64& random) {
  const auto draw = [&random](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  const auto chance = [&random](double p) { return std::bernoulli_distribution(p)(random); };
  auto plan = std::make_shared<SamplerPlan>();
  for (int step = draw(1, 6); step > 0; --step) {
    plan->steps.push_back(
        {.timestep = static_cast<float>(10 * step), .prediction = static_cast<float>(number)});
  }
  const int side = options.mixed_sizes && chance(0.3) ? 4 : 8;
  Asked asked;
  asked.arrival = now + absl::Milliseconds(draw(0, 400));
  asked.job = {.id = JobId{static_cast<uint64_t>(number)},
               .source = std::make_shared<Image>(Image{1, 1, {static_cast<uint8_t>(number), 0, 0}}),
               .plan = plan,
               .sample_count = draw(1, 4),
               .seed = static_cast<uint64_t>(number) * 1000,
               .guidance_scale = chance(0.3) ? 1.0f : 3.0f,
               .latent_width = side,
               .latent_height = side,
               .priority = chance(0.3) ? Priority::kBatch : Priority::kInteractive};
  asked.job.preview_interval_steps = draw(0, 3);
  if (options.flood) {
    asked.is_flood = number <= 2 * options.jobs / 3;
    asked.job.caller = asked.is_flood ? "flood" : absl::StrCat("guest ", number);
    asked.job.priority = Priority::kInteractive;
    if (asked.is_flood) asked.arrival = now;
  } else {
    if (chance(0.4)) asked.job.deadline = asked.arrival + absl::Milliseconds(draw(5, 600));
    if (chance(0.2)) asked.cancel_at = asked.arrival + absl::Milliseconds(draw(0, 200));
  }
  asked.is_not_finite = options.faults && chance(0.2);
  asked.is_unsafe = chance(0.1);
  return asked;
}

}  // namespace image_variations
