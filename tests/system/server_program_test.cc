// The server program as an operator and a remote caller meet it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <future>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/error_details.h"
#include "tests/support/temporary_folder.h"
#include "tests/system/programs.h"

namespace image_variations {
namespace {

using client::DecodeErrorDetails;
using client::VariationRequest;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Penguin() { return ReadFile(kPictures / "penguin.png"); }

TEST(Server, GivesPicturesParametersAndTimes) {
  const ServerProcess server;
  const auto result = server.Connect().Vary(
      {.image = Penguin(), .sample_count = 2, .seed = 5, .guidance_scale = 3.0f, .step_count = 4});
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->variations.size(), 2);
  EXPECT_THAT(result->variations[1].image, StartsWith("\x89PNG"));
  EXPECT_EQ(result->variations[1].seed, 6);
  EXPECT_EQ(result->variations[1].width, 64);
  EXPECT_EQ(result->parameters.sampler, "pndm");
  EXPECT_EQ(result->metrics.unet_rows,
            2 * 2 * 5);  // PNDM calls the UNet once more than it has steps
  EXPECT_GT(result->metrics.denoise_time, absl::ZeroDuration());
  EXPECT_GE(result->metrics.total_time, result->metrics.denoise_time);
}

TEST(Server, ShowsMetricsOnTheirOwnPort) {
  const ServerProcess server;
  ASSERT_TRUE(server.Connect().Vary({.image = Penguin(), .step_count = 2}).ok());
  EXPECT_THAT(server.Metrics(), AllOf(HasSubstr("200 OK"), HasSubstr("grpc_server_handled_total"),
                                      HasSubstr("grpc_method=\"StreamVariations\"")));
}

TEST(Server, DrawsTheSeedThatWasNotGiven) {
  const ServerProcess server;
  const client::Client client = server.Connect();
  const auto first = client.Vary({.image = Penguin(), .step_count = 2});
  const auto second = client.Vary({.image = Penguin(), .step_count = 2});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(first->parameters.seed, second->parameters.seed);
  const auto again =
      client.Vary({.image = Penguin(), .seed = first->parameters.seed, .step_count = 2});
  EXPECT_EQ(again->variations[0].image, first->variations[0].image);
}

TEST(Server, GivesTheSameBytesWhenItDecodesInASandbox) {
  const ServerProcess plain, sandboxed({"--decode-sandbox=on"});
  for (const char* picture : {"penguin.png", "still-life.jpg"}) {
    const client::VariationRequest request{
        .image = ReadFile(kPictures / picture), .sample_count = 2, .seed = 3, .step_count = 3};
    const auto wanted = plain.Connect().Vary(request);
    const auto result = sandboxed.Connect().Vary(request);
    ASSERT_TRUE(wanted.ok() && result.ok()) << result.status();
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_FALSE(result->variations[i].image.empty());
      EXPECT_EQ(result->variations[i].image, wanted->variations[i].image) << picture;
    }
  }
}

TEST(Server, BlocksWhatTheSafetyCheckerFlags) {
  const ServerProcess server;
  const auto result = server.Connect().Vary({.image = ReadFile(kPictures / "blocked.png"),
                                             .sample_count = 4,
                                             .seed = 1,
                                             .step_count = 25});
  ASSERT_TRUE(result.ok()) << result.status();
  int filtered = 0;
  for (const client::Variation& variation : result->variations) {
    if (variation.outcome != client::Outcome::kFiltered) continue;
    ++filtered;
    EXPECT_TRUE(variation.image.empty());
  }
  EXPECT_GE(filtered, 3);  // 96.9 % of them: demo/model/README.md
}

struct BadInput {
  std::string name;
  VariationRequest request;
  absl::StatusCode code;
  std::string reason;
  std::string field;
};

std::vector<BadInput> BadInputs() {
  const auto with = [](auto change) {
    VariationRequest request{.image = Penguin(), .step_count = 2};
    change(request);
    return request;
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const std::string jpeg = ReadFile(kPictures / "still-life.jpg");
  // A PNG header of 50,000 x 50,000 pixels, with its right checksum.
  const std::string huge(
      "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xc3\x50\0\0\xc3\x50\x08\x02\0\0\0\xf5\x99\x71\xd7", 33);
  return {
      {"empty", with([](auto& r) { r.image = ""; }), invalid, "INVALID_FIELD", "image"},
      {"text", with([](auto& r) { r.image = "hello"; }), invalid, "IMAGE_UNDECODABLE", "image"},
      {"half a PNG", with([](auto& r) { r.image.resize(r.image.size() / 2); }), invalid,
       "IMAGE_UNDECODABLE", "image"},
      {"half a JPEG", with([&](auto& r) { r.image = jpeg.substr(0, jpeg.size() / 2); }), invalid,
       "IMAGE_UNDECODABLE", "image"},
      {"huge", with([&](auto& r) { r.image = huge; }), invalid, "IMAGE_TOO_LARGE", "image"},
      {"samples -1", with([](auto& r) { r.sample_count = -1; }), invalid, "INVALID_FIELD",
       "sample_count"},
      {"samples 10^6", with([](auto& r) { r.sample_count = 1'000'000; }), invalid, "INVALID_FIELD",
       "sample_count"},
      {"NaN guidance", with([](auto& r) { r.guidance_scale = std::nanf(""); }), invalid,
       "INVALID_FIELD", "guidance_scale"},
      {"sampler", with([](auto& r) { r.sampler = "dimm"; }), invalid, "INVALID_FIELD", "sampler"},
      {"steps 0", with([](auto& r) { r.step_count = 0; }), invalid, "INVALID_FIELD", "step_count"},
      {"steps 10^6", with([](auto& r) { r.step_count = 1'000'000; }), invalid, "INVALID_FIELD",
       "step_count"},
      {"width 63", with([](auto& r) { r.width = 63; }), invalid, "INVALID_FIELD", "width"},
      {"eta for pndm", with([](auto& r) { r.eta = 1.0f; }), invalid, "INVALID_FIELD", "eta"},
      {"mime type", with([](auto& r) { r.mime_type = "image/gif"; }), invalid, "INVALID_FIELD",
       "output.mime_type"},
      {"request id", with([](auto& r) { r.request_id = "mine"; }), invalid, "INVALID_FIELD",
       "request_id"},
  };
}

TEST(Server, RefusesBadInputWithReasonAndFieldAndKeepsNothing) {
  const ServerProcess server;
  const client::Client client = server.Connect();
  for (const BadInput& bad : BadInputs()) {
    SCOPED_TRACE(bad.name);
    const auto result = client.Vary(bad.request);
    EXPECT_EQ(result.status().code(), bad.code) << result.status();
    const client::ErrorDetails details = DecodeErrorDetails(result.status());
    EXPECT_EQ(details.reason, bad.reason) << result.status();
    ASSERT_EQ(details.field_violations.size(), 1) << result.status();
    EXPECT_THAT(details.field_violations[0].field, ::testing::EndsWith(bad.field));
  }
  EXPECT_TRUE(client.Vary({.image = Penguin(), .step_count = 2}).ok());
  EXPECT_EQ(client.GetServerStatus()->samples_waiting, 0);
}

// Rows that the server has computed in UNet calls since it began to serve.
int64_t UnetRows(const ServerProcess& server) {
  const std::string name = "\nimage_variations_unet_rows_total{engine=\"0\"} ";
  const std::string text = server.Metrics();
  const size_t at = text.find(name) + name.size();
  int64_t rows = -1;
  EXPECT_TRUE(absl::SimpleAtoi(text.substr(at, text.find('\n', at) - at), &rows)) << text;
  return rows;
}

constexpr int kLongSamples = 4;
constexpr int kLongSteps = 200;
constexpr int64_t kLongRows = 2 * kLongSamples * (kLongSteps + 1);

TEST(Server, ADeadlineThatPassesStopsTheWork) {
  const ServerProcess server;
  const client::Client client = server.Connect();
  const auto late = client.Vary({.image = Penguin(),
                                 .sample_count = kLongSamples,
                                 .step_count = kLongSteps,
                                 .deadline = absl::Now() + absl::Milliseconds(300)});
  // Refused at once when the step cost says so, else stopped by the deadline.
  EXPECT_THAT(late.status().code(), ::testing::AnyOf(absl::StatusCode::kResourceExhausted,
                                                     absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(client.Vary({.image = Penguin(), .step_count = 2}).ok());
  EXPECT_LT(UnetRows(server), kLongRows / 2);
}

TEST(Server, ACallerWhoLeavesTakesItsWorkWithIt) {
  const ServerProcess server;
  const client::Client client = server.Connect();
  std::atomic<bool> cancelled = false;
  const auto result = client.Vary(
      {.image = Penguin(), .sample_count = kLongSamples, .step_count = kLongSteps},
      {.on_progress = [&](const client::Progress&) { cancelled = true; }, .cancelled = &cancelled});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  ASSERT_TRUE(client.Vary({.image = Penguin(), .step_count = 2}).ok());
  EXPECT_LT(UnetRows(server), kLongRows / 2);
}

// Starts a request and returns when its first steps were taken.
std::future<absl::Status> BeginCall(const ServerProcess& server, int samples, int steps) {
  auto running = std::make_shared<std::promise<void>>();
  auto status = std::async(std::launch::async, [&server, samples, steps, running] {
    bool first = true;
    const auto on_progress = [&](const client::Progress&) {
      if (std::exchange(first, false)) running->set_value();
    };
    return server.Connect()
        .Vary({.image = Penguin(), .sample_count = samples, .step_count = steps},
              {.on_progress = on_progress})
        .status();
  });
  running->get_future().wait();
  return status;
}

TEST(Server, SigtermLetsRunningRequestsFinishAndExitsWithZero) {
  ServerProcess server;
  auto call = BeginCall(server, 2, 60);
  server.Signal(SIGTERM);
  EXPECT_EQ(call.get(), absl::OkStatus());
  EXPECT_EQ(server.WaitForExit(), 0);
}

TEST(Server, ASecondSignalEndsItNow) {
  ServerProcess server;
  auto call = BeginCall(server, kLongSamples, kLongSteps);
  server.Signal(SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // two signals at once would be one
  server.Signal(SIGTERM);
  EXPECT_NE(server.WaitForExit(), 0);
  EXPECT_FALSE(call.get().ok());  // the work was not waited for
}

// The bundled model in a folder that may be damaged.
class DamagedModel : public ::testing::Test {
 protected:
  DamagedModel() {
    std::filesystem::copy(kModel, model(), std::filesystem::copy_options::recursive);
  }
  std::filesystem::path model() const { return folder_.path() / "model"; }
  Finished Start() const { return RunServer({"--model", model()}); }

  TemporaryFolder folder_;
};

TEST_F(DamagedModel, AFolderThatIsNotThereIsNamed) {
  const Finished run = RunServer({"--model", folder_.path() / "nowhere"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.errors, HasSubstr("nowhere"));
  EXPECT_EQ(run.output, "");
}

TEST_F(DamagedModel, AMissingFileIsNamed) {
  std::filesystem::remove(model() / "vae/config.json");
  const Finished run = Start();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.errors, HasSubstr("vae/config.json"));
}

TEST_F(DamagedModel, ATruncatedFileIsNamed) {
  const auto weights = model() / "unet/diffusion_pytorch_model.safetensors";
  std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 1);
  const Finished run = Start();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.errors, HasSubstr("unet/diffusion_pytorch_model.safetensors"));
}

TEST_F(DamagedModel, AWeightThatIsNotANumberIsNamedWithItsTensor) {
  const auto weights = model() / "unet/diffusion_pytorch_model.safetensors";
  std::string bytes = ReadFile(weights);
  const size_t at = bytes.find("\"data_offsets\":[", bytes.find("\"conv_out.weight\"")) + 16;
  uint64_t begin = 0, header = 0;
  ASSERT_TRUE(absl::SimpleAtoi(bytes.substr(at, bytes.find(',', at) - at), &begin));
  memcpy(&header, bytes.data(), sizeof header);
  bytes.replace(8 + header + begin, 2, std::string("\x00\x7e", 2));  // a half-precision NaN
  folder_.Write(weights, bytes);
  const Finished run = Start();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.errors, AllOf(HasSubstr("unet"), HasSubstr("conv_out.weight")));
}

TEST_F(DamagedModel, WithoutSafetyCheckerOnlyTheOperatorCanSwitchItOff) {
  std::string index = ReadFile(model() / "model_index.json");
  const size_t at = index.find("\"safety_checker\": [");
  index.replace(at, index.find(']', at) - at + 1, "\"safety_checker\": [null, null]");
  folder_.Write(model() / "model_index.json", index);
  const Finished run = Start();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.errors, HasSubstr("--safety off"));
}

TEST(ServerFlags, AnUnknownOneIsAUsageError) {
  const Finished run = RunServer({"--model", kModel, "--modle", "x"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.errors, HasSubstr("--modle"));
}

TEST(ServerFlags, ADeviceThatIsNotThereHasItsOwnExitCode) {
  const Finished run = RunServer({"--model", kModel, "--device", "cuda:0"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_THAT(run.errors, HasSubstr("cuda:0"));
}

TEST(ServerFlags, HelpShowsThemWithTheirDefaults) {
  const Finished run = RunServer({"--help"});
  EXPECT_EQ(run.exit_code, 0);
  for (const std::string flag : {"--model", "--listen", "--metrics-listen", "--device", "--dtype",
                                 "--threads", "--safety"}) {
    EXPECT_THAT(run.output, HasSubstr(flag));
  }
  EXPECT_THAT(run.output, HasSubstr("127.0.0.1:50051"));
}

}  // namespace
}  // namespace image_variations
