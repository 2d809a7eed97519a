// What a call costs beside its networks and its codecs: bin/calls_benchmark [CALLS [STEPS
// [AT_ONCE [copied]]]], of an optimised build. Prints a line of JSON.
//
// The whole server runs in a process of its own, with a runner that takes no time, and answers
// unary calls with a 512x512 PNG in and another out. Counted is that process's CPU time, without
// what its threads spent in DecodeImage, EncodeImage (ld --wrap) and the runner. With `copied` the
// codecs only copy what they gave at first, and leave the caches to the rest. In turn with it a
// bare gRPC server gets the same calls and answers with such a PNG at once.
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
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
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
bool codecs_copy = false;

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
  // Not timed: reading the clock twice takes longer.
  absl::StatusOr<std::vector<bool>> Denoise(absl::Span<const StepRow> rows, int) override {
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

// What gRPC takes for such messages.
class BareService final : public v1::VariationService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GenerateVariations(grpc::CallbackServerContext* context,
                                               const v1::GenerateVariationsRequest*,
                                               v1::GenerateVariationsResponse* response) override {
    v1::Variation& variation = *response->add_variations();
    variation.set_outcome(v1::Variation::OUTCOME_GENERATED);
    variation.set_image(png_);
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  const std::string png_ = RealEncode(Picture(), {}).value();
};

int RunBareServer() {
  BareService service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  IV_CHECK(server != nullptr);
  std::printf("listening on 127.0.0.1:%d\n", port);
  std::fflush(stdout);
  server->Wait();
  return 0;
}

struct ServerProcess {
  pid_t pid = -1;
  std::string address = {};
  clockid_t clock = {};

  void Stop() const {
    kill(pid, SIGKILL);
    IV_CHECK(waitpid(pid, nullptr, 0) == pid);
  }
};

ServerProcess Start(int (*run)()) {
  int ends[2];
  IV_CHECK(pipe(ends) == 0);
  const pid_t pid = fork();
  IV_CHECK(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(ends[1], STDOUT_FILENO);
    IV_CHECK(std::freopen("/dev/null", "w", stderr) != nullptr);  // a line of log for each call
    std::_Exit(run());
  }
  close(ends[1]);
  FILE* output = fdopen(ends[0], "r");
  char line[256] = "";
  IV_CHECK(std::fgets(line, sizeof line, output) != nullptr);
  absl::string_view address = absl::StripTrailingAsciiWhitespace(line);
  IV_CHECK(absl::ConsumePrefix(&address, "listening on "));
  ServerProcess server{.pid = pid, .address = std::string(address)};
  IV_CHECK(clock_getcpuclockid(pid, &server.clock) == 0);
  return server;
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

struct Load {
  int calls = 1000;
  int steps = 50;
  int at_once = 1;
};

// CPU milliseconds of the server, each call.
double CpuOfCalls(const ServerProcess& server, const std::string& png, const Load& load) {
  const int64_t began = Nanoseconds(server.clock);
  CallAtOnce(server.address, png, load.calls, load.steps, load.at_once);
  return static_cast<double>(Nanoseconds(server.clock) - began) / 1e6 / load.calls;
}

int Main(int argc, char** argv) {
  Load load;
  if (argc > 1) load.calls = std::atoi(argv[1]);
  if (argc > 2) load.steps = std::atoi(argv[2]);
  if (argc > 3) load.at_once = std::atoi(argv[3]);
  codecs_copy = argc > 4 && absl::string_view(argv[4]) == "copied";
  load.calls -= load.calls % load.at_once;
  void* shared =
      mmap(nullptr, sizeof(LeftOut), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  IV_CHECK(shared != MAP_FAILED);
  left_out = new (shared) LeftOut;
  const ServerProcess server = Start(RunServer), bare = Start(RunBareServer);
  const std::string png = RealEncode(Picture(), {}).value();

  const Load warm = {std::max(load.at_once, load.calls / 20), load.steps, load.at_once};
  CpuOfCalls(server, png, warm);
  CpuOfCalls(bare, png, warm);
  const int64_t codecs = left_out->codecs, runner = left_out->runner;
  const double all = CpuOfCalls(server, png, load);
  const double of_codecs = static_cast<double>(left_out->codecs - codecs) / 1e6 / load.calls;
  const double of_runner = static_cast<double>(left_out->runner - runner) / 1e6 / load.calls;
  const double of_grpc = CpuOfCalls(bare, png, load);
  std::printf(
      "{\"calls\": %d, \"steps\": %d, \"at_once\": %d, \"png_bytes\": %zu, \"cpu_ms\": %.4f, "
      "\"codecs_ms\": %.4f, \"runner_ms\": %.4f, \"ours_ms\": %.4f, \"grpc_ms\": %.4f}\n",
      load.calls, load.steps, load.at_once, png.size(), all, of_codecs, of_runner,
      all - of_codecs - of_runner, of_grpc);
  server.Stop();
  bare.Stop();
  return 0;
}

}  // namespace

absl::StatusOr<Image> TimedDecode(absl::string_view bytes, const DecodeLimits& limits) {
  const Timer timer(left_out->codecs);
  if (!codecs_copy) return RealDecode(bytes, limits);
  static const absl::StatusOr<Image> first = RealDecode(bytes, limits);
  return first;
}

absl::StatusOr<std::string> TimedEncode(const Image& image, const EncodeOptions& options) {
  const Timer timer(left_out->codecs);
  if (!codecs_copy) return RealEncode(image, options);
  static const absl::StatusOr<std::string> first = RealEncode(image, options);
  return first;
}

}  // namespace image_variations

int main(int argc, char** argv) { return image_variations::Main(argc, argv); }
