// What a call costs beside its networks and its codecs: bin/calls_benchmark [CALLS [STEPS
// [AT_ONCE]]], of an optimised build. Prints a line of JSON.
//
// The whole server runs in a process of its own, with a runner that takes no time, and answers
// unary calls with a 512x512 PNG in and another out. Counted is that process's CPU time, without
// what its threads spent in DecodeImage, EncodeImage (ld --wrap) and the runner.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/strip.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "imagevariations/v1/image_variations.grpc.pb.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/codec.h"
#include "server/serve.h"

namespace image_variations {

// By their symbols: --wrap has every call of the function, by whatever folder, arrive at the
// second.
#define IV_DECODE \
  "_ZN16image_variations11DecodeImageEN4absl7debian311string_viewERKNS_12DecodeLimitsE"
#define IV_ENCODE "_ZN16image_variations11EncodeImageB5cxx11ERKNS_5ImageERKNS_13EncodeOptionsE"
absl::StatusOr<Image> RealDecode(absl::string_view, const DecodeLimits&) asm("__real_" IV_DECODE);
absl::StatusOr<Image> TimedDecode(absl::string_view, const DecodeLimits&) asm("__wrap_" IV_DECODE);
absl::StatusOr<std::string> RealEncode(const Image&, const EncodeOptions&) asm("__real_" IV_ENCODE);
absl::StatusOr<std::string> TimedEncode(const Image&,
                                        const EncodeOptions&) asm("__wrap_" IV_ENCODE);

namespace {

namespace v1 = imagevariations::v1;

constexpr int kSide = 512;

int64_t Nanoseconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

// In memory that both processes see.
struct LeftOut {
  std::atomic<int64_t> codecs = 0;  // CPU nanoseconds
  std::atomic<int64_t> runner = 0;
};
LeftOut* left_out = nullptr;

class Timer {
 public:
  explicit Timer(std::atomic<int64_t>& sum) : sum_(sum) {}
  ~Timer() { sum_ += Nanoseconds(CLOCK_THREAD_CPUTIME_ID) - begin_; }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  std::atomic<int64_t>& sum_;
  const int64_t begin_ = Nanoseconds(CLOCK_THREAD_CPUTIME_ID);
};

// Of a photograph's kind: smooth, with some noise, so that its PNG is neither empty nor stored.
Image Picture() {
  Image picture{kSide, kSide, std::vector<uint8_t>(RgbBytes(kSide, kSide))};
  uint32_t noise = 1;
  for (size_t i = 0; i < picture.rgb.size(); ++i) {
    noise = noise * 1664525 + 1013904223;
    picture.rgb[i] = static_cast<uint8_t>(i / 3 % kSide / 4 + i / (3 * kSide) / 4 + (noise >> 30));
  }
  return picture;
}

class TimelessRunner final : public ModelRunner {
 public:
  TimelessRunner() {
    info_.model_id = "timeless";
    info_.device = "cpu";
    info_.dtype = "fp32";
    info_.has_safety_checker = true;
    info_.reproducible = true;
    info_.sampler.steps_offset = 1;
    info_.sampler.set_alpha_to_one = false;
  }

  const ModelInfo& info() const override { return info_; }
  absl::Status EmbedImage(JobId, const Image&, Preprocessing) override { return absl::OkStatus(); }
  absl::Status PrepareLatents(absl::Span<const PrepareRow>) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<bool>> Denoise(absl::Span<const StepRow> rows, int) override {
    const Timer timer(left_out->runner);
    return std::vector<bool>(rows.size(), true);
  }
  absl::StatusOr<std::vector<std::optional<Image>>> DecodeLatents(
      absl::Span<const SlotId> slots) override {
    const Timer timer(left_out->runner);
    return std::vector<std::optional<Image>>(slots.size(), picture_);
  }
  absl::StatusOr<std::vector<Image>> PreviewLatents(absl::Span<const SlotId>) override {
    return absl::UnimplementedError("no previews");
  }
  absl::StatusOr<std::vector<ImageScores>> ScoreImages(absl::Span<const ScoreRow> rows) override {
    const Timer timer(left_out->runner);
    const ImageScores safe{.safety = {.special_care = {-1}, .concepts = {-1}}, .similarity = 0.5f};
    return std::vector<ImageScores>(rows.size(), safe);
  }
  void Forget(JobId) override {}

 private:
  ModelInfo info_;
  const Image picture_ = Picture();
};

int RunServer() {
  ServerConfig config{.model = "timeless"};
  config.listener.address = "127.0.0.1:0";
  config.metrics_listen = "127.0.0.1:0";
  config.ledger = {};
  return Serve(config, []() -> absl::StatusOr<std::vector<ModelRunnerFactory>> {
    std::vector<ModelRunnerFactory> factories;
    factories.push_back([]() -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
      return std::make_unique<TimelessRunner>();
    });
    return factories;
  });
}

struct ServerProcess {
  pid_t pid = -1;
  std::string address;
};

ServerProcess StartServer() {
  int ends[2];
  IV_CHECK(pipe(ends) == 0);
  const pid_t pid = fork();
  IV_CHECK(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(ends[1], STDOUT_FILENO);
    IV_CHECK(std::freopen("/dev/null", "w", stderr) != nullptr);  // a line of log for each call
    std::_Exit(RunServer());
  }
  close(ends[1]);
  FILE* output = fdopen(ends[0], "r");
  char line[256] = "";
  IV_CHECK(std::fgets(line, sizeof line, output) != nullptr);
  absl::string_view address = absl::StripTrailingAsciiWhitespace(line);
  IV_CHECK(absl::ConsumePrefix(&address, "listening on "));
  return {pid, std::string(address)};
}

void Call(const std::string& address, const std::string& png, int calls, int steps) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto stub = v1::VariationService::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  v1::GenerateVariationsRequest request;
  request.set_image(png);
  request.set_step_count(steps);
  for (int i = 0; i < calls; ++i) {
    grpc::ClientContext context;
    v1::GenerateVariationsResponse response;
    const grpc::Status status = stub->GenerateVariations(&context, request, &response);
    IV_CHECK(status.ok() && response.variations_size() == 1);
    IV_CHECK(response.variations(0).outcome() == v1::Variation::OUTCOME_GENERATED);
  }
}

void CallAtOnce(const std::string& address, const std::string& png, int calls, int steps,
                int at_once) {
  std::vector<std::thread> callers;
  for (int i = 0; i < at_once; ++i) {
    callers.emplace_back([&] { Call(address, png, calls / at_once, steps); });
  }
  for (std::thread& caller : callers) caller.join();
}

int Main(int argc, char** argv) {
  const int calls = argc > 1 ? std::atoi(argv[1]) : 1000;
  const int steps = argc > 2 ? std::atoi(argv[2]) : 50;
  const int at_once = argc > 3 ? std::atoi(argv[3]) : 1;
  void* shared =
      mmap(nullptr, sizeof(LeftOut), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  IV_CHECK(shared != MAP_FAILED);
  left_out = new (shared) LeftOut;
  const ServerProcess server = StartServer();
  clockid_t clock{};
  IV_CHECK(clock_getcpuclockid(server.pid, &clock) == 0);
  const std::string png = RealEncode(Picture(), {}).value();

  CallAtOnce(server.address, png, std::max(at_once, calls / 20), steps, at_once);
  const int64_t cpu = Nanoseconds(clock);
  const int64_t codecs = left_out->codecs, runner = left_out->runner;
  CallAtOnce(server.address, png, calls, steps, at_once);
  const auto milliseconds = [&](int64_t nanoseconds) {
    return static_cast<double>(nanoseconds) / 1e6 / (calls / at_once * at_once);
  };
  const double all = milliseconds(Nanoseconds(clock) - cpu);
  const double of_codecs = milliseconds(left_out->codecs - codecs);
  const double of_runner = milliseconds(left_out->runner - runner);
  std::printf(
      "{\"calls\": %d, \"steps\": %d, \"at_once\": %d, \"png_bytes\": %zu, \"cpu_ms\": %.4f, "
      "\"codecs_ms\": %.4f, \"runner_ms\": %.4f, \"ours_ms\": %.4f}\n",
      calls / at_once * at_once, steps, at_once, png.size(), all, of_codecs, of_runner,
      all - of_codecs - of_runner);
  kill(server.pid, SIGTERM);
  return waitpid(server.pid, nullptr, 0) == server.pid ? 0 : 1;
}

}  // namespace

absl::StatusOr<Image> TimedDecode(absl::string_view bytes, const DecodeLimits& limits) {
  const Timer timer(left_out->codecs);
  return RealDecode(bytes, limits);
}

absl::StatusOr<std::string> TimedEncode(const Image& image, const EncodeOptions& options) {
  const Timer timer(left_out->codecs);
  return RealEncode(image, options);
}

}  // namespace image_variations

int main(int argc, char** argv) { return image_variations::Main(argc, argv); }
