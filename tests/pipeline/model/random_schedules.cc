// "Same bytes, whatever the company", by chance: random_schedules [COUNT [SEED]] plays schedules of
// unlike requests that join and are cancelled at any tick, with the real engine and the bundled
// model, and compares each picture with the one that its request has alone. Ends with 1 when a byte
// differs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/base/clock.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/engine.h"
#include "pipeline/model/torch_model_runner.h"

namespace image_variations {
namespace {

constexpr int kRequests = 300;            // unlike ones, of which schedules are made
constexpr int kSchedulesOfAnEngine = 50;  // then the model is loaded anew, for other batches
constexpr int kMaxRows[] = {16, 5, 8, 3, 2};

using Pictures = std::map<int, std::vector<uint8_t>>;  // by index

struct Totals {
  int schedules = 0, pictures = 0, cancelled = 0, calls = 0, rows = 0, most_rows = 0;
  int64_t differing_bytes = 0;
};

class Counter final : public EngineObserver {
 public:
  explicit Counter(Totals& totals) : totals_(totals) {}
  void OnTick(const TickReport& tick) override {
    totals_.calls += tick.unet_rows > 0;
    totals_.rows += tick.unet_rows;
    totals_.most_rows = std::max(totals_.most_rows, tick.unet_rows);
  }
  void OnSampleEnd(SampleOutcome outcome, int /*unet_rows*/) override {
    totals_.cancelled += outcome == SampleOutcome::kCancelled;
  }

 private:
  Totals& totals_;
};

class Album final : public JobListener {
 public:
  void OnProgress(const JobProgress&) override {}
  void OnSample(int index, absl::StatusOr<SampleResult> result) override {
    IV_CHECK(result.ok() || absl::IsCancelled(result.status()));
    if (result.ok()) pictures[index] = result->image.image().rgb;
  }
  void OnDone(const JobMetrics&) override {}

  Pictures pictures;
};

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  int Roll(int least, int most) {
    return least + static_cast<int>(random_() % static_cast<uint64_t>(most - least + 1));
  }
  template <typename Row>
  const auto& Pick(const Row& row) {
    return row[static_cast<size_t>(Roll(0, static_cast<int>(std::size(row)) - 1))];
  }

 private:
  std::mt19937_64 random_;
};

std::shared_ptr<const Image> Noise(Dice& dice) {
  Image image{48, 48, {}};
  for (int i = 0; i < 3 * 48 * 48; ++i) {
    image.rgb.push_back(static_cast<uint8_t>(dice.Roll(0, 255)));
  }
  return std::make_shared<const Image>(std::move(image));
}

// Any sampler, 1 to 8 steps (some samplers need more than one), guided or not, one to three
// pictures of 48 to 72 pixels a side.
std::vector<Job> MakeRequests(const SamplerConfig& config, Dice& dice) {
  const std::vector<SamplerInfo> samplers = SamplersOf(config);
  const float guidance[] = {1, 1, 2, 3, 7.5f};
  const int sides[] = {16, 16, 16, 12, 13, 18};
  std::vector<Job> requests;
  while (static_cast<int>(requests.size()) < kRequests) {
    const SamplerInfo& sampler = dice.Pick(samplers);
    auto plan = MakeSamplerPlan(config, {std::string(sampler.name), dice.Roll(1, 8),
                                         sampler.has_eta ? dice.Roll(0, 1) : 0.0});
    if (!plan.ok()) continue;
    requests.push_back({.source = Noise(dice),
                        .preprocessing = dice.Roll(0, 1) == 0 ? Preprocessing::kModelCard
                                                              : Preprocessing::kClipProcessor,
                        .plan = std::make_shared<const SamplerPlan>(*std::move(plan)),
                        .sample_count = dice.Roll(1, 3),
                        .seed = static_cast<uint64_t>(dice.Roll(0, 1 << 30)),
                        .guidance_scale = dice.Pick(guidance),
                        .latent_width = dice.Pick(sides),
                        .latent_height = dice.Pick(sides)});
  }
  return requests;
}

std::unique_ptr<Engine> LoadEngine(const ModelDir& dir, int max_rows, const Clock& clock,
                                   EngineObserver& observer) {
  const TorchModelRunnerOptions options{
      .dtype = "fp32", .threads = 2, .max_slots = 32, .max_rows = max_rows};
  StepBatcherOptions batcher;
  batcher.max_slots = options.max_slots;
  batcher.max_rows = max_rows;
  return std::make_unique<Engine>(EngineOptions{.batcher = batcher, .safety = SafetyMode::kOff},
                                  MakeTorchModelRunner(dir, options).value(), clock, observer);
}

// What each request has alone, sample by sample.
class Alone {
 public:
  Alone(const std::vector<Job>& requests, Engine& engine) : requests_(requests), engine_(engine) {}

  const std::vector<uint8_t>& Picture(size_t request, int index) {
    std::vector<uint8_t>& picture = pictures_[{request, index}];
    if (!picture.empty()) return picture;
    const auto album = std::make_shared<Album>();
    Job job = requests_[request];
    job.id = JobId{++last_job_};
    job.sample_count = 1;
    job.seed += static_cast<uint64_t>(index);
    job.listener = album;
    IV_CHECK(engine_.Submit(std::move(job)).ok());
    while (engine_.RunTick()) {
    }
    return picture = std::move(album->pictures.at(0));
  }

 private:
  const std::vector<Job>& requests_;
  Engine& engine_;
  uint64_t last_job_ = 0;
  std::map<std::pair<size_t, int>, std::vector<uint8_t>> pictures_;
};

struct Visit {
  size_t request = 0;
  int joins_at = 0, cancelled_at = -1;  // ticks; -1: never
  JobId id{};
  std::shared_ptr<Album> album = std::make_shared<Album>();
};

std::vector<Visit> MakeSchedule(Dice& dice, uint64_t& last_job) {
  std::vector<Visit> visits(static_cast<size_t>(dice.Roll(2, 6)));
  for (Visit& visit : visits) {
    visit.request = static_cast<size_t>(dice.Roll(0, kRequests - 1));
    visit.joins_at = dice.Roll(0, 1) == 0 ? 0 : dice.Roll(0, 10);
    if (dice.Roll(0, 4) == 0) visit.cancelled_at = visit.joins_at + dice.Roll(0, 8);
    visit.id = JobId{++last_job};
  }
  return visits;
}

void PlaySchedule(const std::vector<Job>& requests, const std::vector<Visit>& visits,
                  Engine& engine) {
  constexpr int kLastChange = 18;
  for (int tick = 0;; ++tick) {
    for (const Visit& visit : visits) {
      if (visit.joins_at == tick) {
        Job job = requests[visit.request];
        job.id = visit.id;
        job.listener = visit.album;
        IV_CHECK(engine.Submit(std::move(job)).ok());
      }
      if (visit.cancelled_at == tick) engine.Cancel(visit.id, absl::CancelledError("by chance"));
    }
    if (!engine.RunTick() && tick >= kLastChange) return;
  }
}

int64_t DifferingBytes(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  if (a.size() != b.size()) return static_cast<int64_t>(std::max(a.size(), b.size()));
  int64_t differing = 0;
  for (size_t i = 0; i < a.size(); ++i) differing += a[i] != b[i];
  return differing;
}

int Main(int schedules, uint64_t seed) {
  const RealClock clock;
  const ModelDir dir = ModelDir::Open("demo/model").value();
  Totals totals, unused;
  Counter counter(totals), deaf(unused);
  const std::unique_ptr<Engine> lonely = LoadEngine(dir, 2, clock, deaf);
  Dice dice(seed);
  const std::vector<Job> requests = MakeRequests(lonely->model().sampler, dice);
  Alone alone(requests, *lonely);
  std::unique_ptr<Engine> engine;
  uint64_t last_job = 0;
  for (; totals.schedules < schedules; ++totals.schedules) {
    if (totals.schedules % kSchedulesOfAnEngine == 0) {
      const int turn = totals.schedules / kSchedulesOfAnEngine;
      engine = LoadEngine(dir, kMaxRows[static_cast<size_t>(turn) % std::size(kMaxRows)], clock,
                          counter);
    }
    const std::vector<Visit> visits = MakeSchedule(dice, last_job);
    PlaySchedule(requests, visits, *engine);
    for (const Visit& visit : visits) {
      const int expected = requests[visit.request].sample_count;
      IV_CHECK(visit.cancelled_at >= 0 ||
               static_cast<int>(visit.album->pictures.size()) == expected);
      for (const auto& [index, picture] : visit.album->pictures) {
        const int64_t differing = DifferingBytes(picture, alone.Picture(visit.request, index));
        if (differing > 0) std::printf("schedule %d: %ld bytes\n", totals.schedules, differing);
        totals.differing_bytes += differing;
        ++totals.pictures;
      }
    }
  }
  std::printf("%d schedules: %d pictures, %d cancelled, %d UNet calls of %.1f rows, %d at most\n",
              totals.schedules, totals.pictures, totals.cancelled, totals.calls,
              static_cast<double>(totals.rows) / std::max(1, totals.calls), totals.most_rows);
  std::printf("differing bytes: %ld\n", totals.differing_bytes);
  return totals.differing_bytes == 0 && totals.pictures > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) {
  return image_variations::Main(argc > 1 ? std::atoi(argv[1]) : 1000,
                                argc > 2 ? static_cast<uint64_t>(std::atoll(argv[2])) : 1);
}
