#include "tests/server/overload_simulation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/engine.h"
#include "server/admission.h"
#include "server/rpc_status.h"
#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

constexpr int kMaxRows = 8;
constexpr double kMeanSteps = 35;

// Python's random.Random(seed) for small seeds, so that a seed means the arrivals that published
// figures were made with: CPython's Modules/_randommodule.c (init_by_array) and Lib/random.py.
class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed) {
    std::array<uint32_t, 624> state;
    state[0] = 19650218u;
    for (uint32_t i = 1; i < 624; ++i) {
      state[i] = 1812433253u * (state[i - 1] ^ (state[i - 1] >> 30)) + i;
    }
    uint32_t i = 1;
    for (int k = 624; k > 0; --k) {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) * 1664525u)) + seed;
      Wrap(&i, &state);
    }
    for (int k = 623; k > 0; --k) {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) * 1566083941u)) - i;
      Wrap(&i, &state);
    }
    state[0] = 0x80000000u;
    std::stringstream text;
    for (const uint32_t word : state) text << word << ' ';
    text << 624;
    text >> twister_;
  }

  double Random() {
    const uint32_t a = Word() >> 5, b = Word() >> 6;
    return (a * 67108864.0 + b) * (1.0 / 9007199254740992.0);
  }
  double Exponential(double rate) { return -std::log(1.0 - Random()) / rate; }
  uint32_t Below(uint32_t n) {
    const int bits = 32 - __builtin_clz(n);
    uint32_t value = Word() >> (32 - bits);
    while (value >= n) value = Word() >> (32 - bits);
    return value;
  }

 private:
  static void Wrap(uint32_t* i, std::array<uint32_t, 624>* state) {
    if (++*i < 624) return;
    (*state)[0] = (*state)[623];
    *i = 1;
  }
  uint32_t Word() { return static_cast<uint32_t>(twister_()); }

  std::mt19937 twister_;
};

struct Arrival {
  absl::Time at;
  absl::Time offered;  // for the first time
  int steps = 0;
  Priority priority = Priority::kInteractive;
  bool is_retry = false;
  std::string caller;
  std::string request_id;

  bool operator>(const Arrival& other) const { return at > other.at; }
};

class OverloadWorld final : public EngineObserver {
 public:
  explicit OverloadWorld(const OverloadOptions& options) : options_(options) {
    for (int i = 0; i < options.devices; ++i) AddDevice();
    is_warm_ = true;
    for (const auto& device : devices_) now_ = std::max(now_, device->clock.Now());
    AdmissionOptions gate_options;
    gate_options.devices = options.devices;
    gate_options.max_rows = kMaxRows;
    gate_options.max_requests = 1 << 20;
    gate_options.max_samples = 1 << 20;
    gate_options.batch_target = options.batch_target;
    gate_ = std::make_unique<AdmissionGate>(gate_options);
    gate_->Open();
    DrawArrivals();
  }

  OverloadReport Run() {
    while (now_ < absl::InfiniteFuture()) {
      for (; !arrivals_.empty() && arrivals_.top().at <= now_; arrivals_.pop()) {
        Ask(arrivals_.top());
      }
      for (; !cancels_.empty() && cancels_.begin()->first <= now_;
           cancels_.erase(cancels_.begin())) {
        const auto request = requests_.find(cancels_.begin()->second);
        if (request == requests_.end()) continue;
        EngineOf(*request->second).Cancel(request->first, absl::CancelledError("the caller left"));
      }
      absl::Time next = absl::InfiniteFuture();
      bool is_idle = false;
      for (const auto& device : devices_) {
        if (RunTickOf(*device)) {
          next = std::min(next, device->clock.Now());
        } else {
          is_idle = true;
        }
      }
      // Who comes while all are busy asks when the first of them has finished its call: earlier,
      // the gate would know of calls what it cannot know before their end.
      if (is_idle && !arrivals_.empty()) next = std::min(next, arrivals_.top().at);
      now_ = next;
    }
    if (calls_ > 0) report_.unet_rows_per_call = static_cast<double>(rows_) / calls_;
    return std::move(report_);
  }

  void OnTick(const TickReport& tick) override {
    rows_ += tick.unet_rows;
    calls_ += tick.unet_rows > 0 ? 1 : 0;
  }

 private:
  struct Request final : public JobListener {
    void OnProgress(const JobProgress& progress) override { ticket.ReportProgress(progress); }
    void OnSample(int, absl::StatusOr<SampleResult> result) override { status = result.status(); }
    void OnDone(const JobMetrics&) override { world->Done(*this); }

    OverloadWorld* world = nullptr;
    JobId id{};
    int device = 0;
    Arrival arrival;
    absl::Time deadline;
    absl::Time admitted;
    AdmissionTicket ticket;
    absl::Status status;
    absl::Time cancelled = absl::InfiniteFuture();
    int wasted_steps = 0;
  };

  struct Device {
    SimulatedClock clock;       // what it does takes its own time
    std::vector<JobId> call{};  // the running UNet call's
    std::unique_ptr<Engine> engine;
  };

  void AddDevice() {
    Device& device = *devices_.emplace_back(std::make_unique<Device>());
    auto runner = std::make_unique<FakeModelRunner>();
    runner->on_call = [this, &device](absl::string_view verb, int rows) {
      device.clock.Advance(TimeOf(verb, rows));
      if (verb == "Denoise") CountWaste(device);
    };
    runner->on_denoise = [&device](absl::Span<const StepRow> rows) {
      device.call.clear();
      for (const StepRow& row : rows) device.call.push_back(row.job);
    };
    EngineOptions options{.warm_up_budget = absl::Hours(1)};
    options.batcher.max_rows = kMaxRows;
    options.batcher.batch_target = options_.batch_target;
    device.engine = std::make_unique<Engine>(options, std::move(runner), device.clock, *this);
    IV_CHECK(device.engine->WarmUp().ok());
  }

  Engine& EngineOf(const Request& request) {
    return *devices_[static_cast<size_t>(request.device)]->engine;
  }

  // False: it has nothing to do now. True while it is busy until later.
  bool RunTickOf(Device& device) {
    if (device.clock.Now() > now_) return true;
    device.clock.Advance(now_ - device.clock.Now());
    return device.engine->RunTick();
  }

  void DrawArrivals() {
    PythonRandom random(static_cast<uint32_t>(options_.seed));
    double at = 0;
    for (int i = 0; i < options_.requests; ++i) {
      const double period = absl::ToDoubleSeconds(options_.load_period);
      const bool is_other = options_.other_load > 0 && std::fmod(at, 2 * period) >= period;
      at += random.Exponential((is_other ? options_.other_load : options_.load) / kMeanSteps);
      const int steps = random.Below(2) == 0 ? 20 : 50;
      random.Below(4);  // a compatibility key, where published simulations have one
      const absl::Time arrival = now_ + absl::Seconds(at);
      arrivals_.push({arrival, arrival, steps, Priority::kInteractive, false,
                      absl::StrCat("caller ", i), "only one"});
    }
    const absl::Time end = now_ + absl::Seconds(at);
    absl::Time batch = now_;
    if (options_.batch_every == absl::InfiniteDuration()) return;
    while ((batch += options_.batch_every) < end) {
      arrivals_.push({batch, batch, 50, Priority::kBatch, false, "batch",
                      absl::FormatTime(batch, absl::UTCTimeZone())});
    }
  }

  void Ask(const Arrival& arrival) {
    const absl::Duration alone =
        absl::Seconds(options_.embed_seconds + arrival.steps + options_.decode_seconds);
    const bool is_batch = arrival.priority == Priority::kBatch;
    auto request = std::make_shared<Request>();
    request->world = this;
    request->id = JobId{++last_job_};
    request->arrival = arrival;
    request->deadline = is_batch ? absl::InfiniteFuture() : arrival.at + 3 * alone;
    if (arrival.is_retry) {
      report_.retries += is_batch ? 0 : 1;
    } else {
      ++(is_batch ? report_.batch_offered : report_.offered);
    }
    std::vector<CostModel> costs;
    for (const auto& device : devices_) costs.push_back(device->engine->status().cost);
    absl::StatusOr<AdmissionTicket> ticket =
        gate_->Enter({.shape = {.samples = 1, .steps = arrival.steps, .rows = 1, .size = {8, 8}},
                      .priority = arrival.priority,
                      .deadline = request->deadline,
                      .caller = arrival.caller,
                      .request_id = arrival.request_id},
                     costs, now_);
    if (!ticket.ok()) {
      Refused(arrival, ticket.status());
      return;
    }
    if (!is_batch) ++report_.admitted;
    if (!is_batch && arrival.is_retry) ++report_.retries_admitted;
    request->ticket = *std::move(ticket);
    request->device = request->ticket.device();
    request->admitted = now_;
    if (!is_batch && Draw() < options_.cancel_share) {
      request->cancelled = now_ + Draw() * 2 * alone;
      cancels_.emplace(request->cancelled, request->id);
    }
    requests_[request->id] = request.get();
    IV_CHECK(EngineOf(*request).Submit(JobOf(request)).ok());
  }

  void Refused(const Arrival& arrival, const absl::Status& why) {
    const auto delay = RetryDelayOf(why);
    if (!delay) return;
    const bool is_batch = arrival.priority == Priority::kBatch;
    if (!is_batch) ++report_.refused;
    if (!is_batch && (!options_.retries || arrival.is_retry)) return;
    Arrival retry = arrival;
    retry.at = now_ + *delay;
    retry.is_retry = true;
    arrivals_.push(retry);
  }

  Job JobOf(const std::shared_ptr<Request>& request) {
    auto plan = std::make_shared<SamplerPlan>();
    plan->steps.resize(static_cast<size_t>(request->arrival.steps));
    return {.id = request->id,
            .source = std::make_shared<Image>(Image{1, 1, {0, 0, 0}}),
            .plan = plan,
            .guidance_scale = 1,
            .latent_width = 8,
            .latent_height = 8,
            .priority = request->arrival.priority,
            .deadline = request->deadline,
            .caller = request->arrival.caller,
            .listener = request};
  }

  // After a call: of those in it whose time was over before its end.
  void CountWaste(const Device& device) {
    for (const JobId id : device.call) {
      const auto request = requests_.find(id);
      if (request == requests_.end()) continue;  // the warm-up's
      Request& counted = *request->second;
      const absl::Time over = std::min(counted.cancelled, counted.deadline);
      if (device.clock.Now() > over) ++counted.wasted_steps;
    }
  }

  void Done(Request& request) {
    const absl::Time now = devices_[static_cast<size_t>(request.device)]->clock.Now();
    if (request.arrival.priority == Priority::kBatch) {
      if (now <= request.admitted + options_.batch_target) ++report_.batch_in_bound;
      const double time = absl::ToDoubleSeconds(now - request.arrival.offered);
      report_.longest_batch = std::max(report_.longest_batch, time);
    } else if (request.status.ok()) {
      if (now <= request.deadline) ++report_.on_time;
      const absl::Duration predicted = request.ticket.forecast().finish;
      const double real = absl::FDivDuration(now - request.admitted, predicted);
      report_.prediction_errors.push_back(std::abs(real - 1));
    }
    if (absl::IsCancelled(request.status)) ++report_.cancelled;
    if (!request.status.ok() || request.wasted_steps > 0) {
      report_.wasted_steps.push_back(request.wasted_steps);
    }
    request.ticket.ReportServed(now, /*is_complete=*/request.status.ok());
    request.ticket = AdmissionTicket();
    requests_.erase(request.id);
  }

  absl::Duration TimeOf(absl::string_view verb, int rows) const {
    const double base = options_.device.base;
    const double scale = is_warm_ ? options_.mispredicted_by : 1;
    if (verb == "Denoise") return absl::Seconds(scale * (base + (1 - base) * rows));
    if (verb == "EmbedImage") {
      return absl::Seconds(options_.embed_seconds) * rows / TowerRunsOf(Preprocessing::kModelCard);
    }
    if (verb != "DecodeLatents") return absl::ZeroDuration();
    // The small picture of the warm-up has a sixteenth of the area.
    return absl::Seconds(options_.decode_seconds * rows / (is_warm_ ? 1 : 16));
  }

  // Evenly from [0, 1).
  double Draw() { return std::uniform_real_distribution<double>(0, 1)(cancel_random_); }

  const OverloadOptions options_;
  std::mt19937_64 cancel_random_{options_.seed};
  absl::Time now_ = absl::UnixEpoch();
  std::unique_ptr<AdmissionGate> gate_;
  std::map<JobId, Request*> requests_;  // admitted and not done
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> arrivals_;
  std::multimap<absl::Time, JobId> cancels_;
  bool is_warm_ = false;
  uint64_t last_job_ = 0;
  int64_t rows_ = 0;
  int calls_ = 0;
  OverloadReport report_;
  std::vector<std::unique_ptr<Device>> devices_;  // last: their engines' destructors still answer
};

}  // namespace

OverloadReport SimulateOverload(const OverloadOptions& options) {
  return OverloadWorld(options).Run();
}

}  // namespace image_variations
