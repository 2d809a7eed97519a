#include "server/config.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

absl::StatusOr<Command> Read(std::vector<std::string> arguments, const Variables& variables = {}) {
  std::vector<const char*> argv = {"server"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return ReadCommand(static_cast<int>(argv.size()), argv.data(), [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

ServerConfig ReadConfig(std::vector<std::string> arguments, const Variables& variables = {}) {
  arguments.push_back("--model=m");
  return Read(std::move(arguments), variables).value().config;
}

std::string ErrorOf(std::vector<std::string> arguments, const Variables& variables = {}) {
  arguments.push_back("--model=m");
  const absl::Status status = Read(std::move(arguments), variables).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(Config, DefaultsStayOnLoopbackAndCheckPictures) {
  const ServerConfig config = ReadConfig({});
  EXPECT_EQ(config.listener.address, "127.0.0.1:50051");
  EXPECT_EQ(config.engine.safety, SafetyMode::kRequired);
  EXPECT_EQ(config.limits.default_step_count, 50);
}

TEST(Config, FlagsReachWhatTheyConfigure) {
  const ServerConfig config = ReadConfig(
      {"--listen", "0.0.0.0:0", "--device=cuda:1", "--safety", "off", "--max-rows=8",
       "--max-image-bytes=2MiB", "--drain-timeout=90s", "--max-guidance=7.5", "--gpu-memory=0.5"});
  EXPECT_EQ(config.listener.address, "0.0.0.0:0");
  EXPECT_THAT(config.devices, ElementsAre("cuda:1"));
  EXPECT_EQ(config.engine.safety, SafetyMode::kOff);
  EXPECT_EQ(config.engine.batcher.max_rows, 8);
  EXPECT_EQ(config.limits.image.max_bytes, 2 << 20);
  EXPECT_EQ(config.drain.timeout, absl::Seconds(90));
  EXPECT_EQ(config.limits.max_guidance_scale, 7.5f);
  EXPECT_EQ(config.gpu_memory, 0.5f);
}

TEST(Config, FlagWinsOverVariableOverFileOverDefault) {
  const TemporaryFolder folder;
  const std::string file =
      folder.Write("server.toml", "max-rows = 4\nmax-slots = 5\nthreads = 6\n");
  const ServerConfig config =
      ReadConfig({"--config", file, "--max-rows=12"},
                 {{"IMAGE_VARIATIONS_MAX_ROWS", "10"}, {"IMAGE_VARIATIONS_MAX_SLOTS", "11"}});
  EXPECT_EQ(config.engine.batcher.max_rows, 12);
  EXPECT_EQ(config.engine.batcher.max_slots, 11);
  EXPECT_EQ(config.threads, 6);
  EXPECT_EQ(config.codec_threads, ServerConfig().codec_threads);
}

TEST(Config, FileCanBeNamedByVariable) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("server.toml", "threads = 3\n");
  EXPECT_EQ(ReadConfig({}, {{"IMAGE_VARIATIONS_CONFIG", file}}).threads, 3);
}

TEST(Config, UnknownFlagIsRefused) { EXPECT_THAT(ErrorOf({"--max-row=1"}), HasSubstr("max-row")); }

TEST(Config, UnknownKeyOfTheFileIsRefused) {
  const TemporaryFolder folder;
  const std::string file = folder.Write("server.toml", "max-row = 4\n");
  EXPECT_THAT(ErrorOf({"--config", file}), HasSubstr("max-row"));
}

TEST(Config, MissingFileIsRefused) {
  EXPECT_THAT(ErrorOf({"--config", "/no/such.toml"}), HasSubstr("/no/such.toml"));
}

TEST(Config, VariablesOfOthersAreIgnored) {
  const ServerConfig config = ReadConfig({}, {{"IMAGE_VARIATIONS_PORT", "tcp://10.0.0.1:50051"},
                                              {"IMAGE_VARIATIONS_SERVICE_HOST", "10.0.0.1"}});
  EXPECT_EQ(config.listener.address, "127.0.0.1:50051");
}

TEST(Config, DevicesAreGivenAgainOrWithCommas) {
  const std::vector<std::vector<std::string>> spellings = {
      {"--device", "cpu", "--device", "cpu", "--device=cuda:3"}, {"--device=cpu,cpu,cuda:3"}};
  for (const std::vector<std::string>& arguments : spellings) {
    const ServerConfig config = ReadConfig(arguments);
    EXPECT_THAT(config.devices, ElementsAre("cpu", "cpu", "cuda:3"));
    EXPECT_EQ(config.admission.devices, 3);
  }
  const ServerConfig config = ReadConfig({}, {{"IMAGE_VARIATIONS_DEVICE", "cuda:0,cuda:1"}});
  EXPECT_THAT(config.devices, ElementsAre("cuda:0", "cuda:1"));
  EXPECT_THAT(ReadConfig({}).devices, ElementsAre("auto"));
}

TEST(Config, DevicesAreOfTheFileToo) {
  const TemporaryFolder folder;
  const auto file = folder.Write("c.toml", "device = [\"cpu\", \"cpu\"]\n");
  EXPECT_THAT(ReadConfig({"--config", file}).devices, ElementsAre("cpu", "cpu"));
}

TEST(Config, DevicesThatCannotBeTogetherAreRefused) {
  EXPECT_THAT(ErrorOf({"--device=auto,cpu"}), HasSubstr("auto"));
  EXPECT_THAT(ErrorOf({"--device=cuda:1", "--device=cuda:1"}),
              HasSubstr("--device cuda:1 is given twice"));
  EXPECT_THAT(ErrorOf({"--device=cpu", "--inject-faults=1/denoise:3=oom"}),
              HasSubstr("there is no engine 1"));
}

TEST(Config, BadValueNamesFlagValueAndWhatIsAccepted) {
  const struct {
    std::string flag;
    std::string expected;
  } cases[] = {
      {"--max-rows=1", "must be a number from 2 to 1024, not \"1\""},
      {"--max-rows=x", "must be a number from 2 to 1024, not \"x\""},
      {"--safety=maybe", "must be required|off, not \"maybe\""},
      {"--device=gpu", "must be cpu, cuda:N or auto, not \"gpu\""},
      {"--drain-timeout=5", "must be a time such as 30s or 5m, not \"5\""},
      {"--max-image-bytes=1TB", "must be a number of bytes"},
      {"--default-guidance=nan", "must be a number from 0 to 100"},
  };
  for (const auto& [flag, expected] : cases) {
    const std::string error = ErrorOf({flag});
    EXPECT_THAT(error, HasSubstr(expected));
    EXPECT_THAT(error, HasSubstr(flag.substr(0, flag.find('='))));
  }
}

TEST(Config, BadVariableIsNamed) {
  EXPECT_THAT(ErrorOf({}, {{"IMAGE_VARIATIONS_MAX_ROWS", "x"}}),
              HasSubstr("IMAGE_VARIATIONS_MAX_ROWS"));
}

TEST(Config, ModelIsRequired) {
  EXPECT_THAT(std::string(Read({}).status().message()), HasSubstr("--model is required"));
}

TEST(Config, FindsTheHuggingFaceCacheAsItsOwnToolsDo) {
  const struct {
    Variables variables;
    std::string cache;
  } cases[] = {
      {{{"HOME", "/root"}}, "/root/.cache/huggingface/hub"},
      {{{"HOME", "/root"}, {"XDG_CACHE_HOME", "/cache"}}, "/cache/huggingface/hub"},
      {{{"XDG_CACHE_HOME", "/cache"}, {"HF_HOME", "/hf"}}, "/hf/hub"},
      {{{"HOME", "/root"}, {"HF_HOME", "~/hf"}}, "/root/hf/hub"},
      {{{"HF_HOME", "/hf"}, {"HUGGINGFACE_HUB_CACHE", "/old"}}, "/old"},
      {{{"HF_HUB_CACHE", "/new"}, {"HUGGINGFACE_HUB_CACHE", "/old"}}, "/new"},
      {{{"HF_HUB_CACHE", ""}, {"HF_HOME", "/hf"}}, "/hf/hub"},
  };
  for (const auto& [variables, cache] : cases) {
    EXPECT_EQ(ReadConfig({}, variables).hub_cache, cache);
  }
}

TEST(Config, ContradictingFlagsAreRefused) {
  EXPECT_THAT(ErrorOf({"--default-steps=60", "--max-step-count=50"}), HasSubstr("only 50"));
  EXPECT_THAT(ErrorOf({"--max-message-bytes=1MiB"}), HasSubstr("less than --max-image-bytes"));
}

TEST(Config, HalfOfTlsOrOfJsonWebTokensIsRefused) {
  EXPECT_THAT(ErrorOf({"--tls-cert=c"}), HasSubstr("--tls-cert and --tls-key belong together"));
  EXPECT_THAT(ErrorOf({"--client-ca=c"}), HasSubstr("--client-ca needs --tls-cert"));
  EXPECT_THAT(ErrorOf({"--client-names=a"}), HasSubstr("--client-names needs --client-ca"));
  EXPECT_THAT(ErrorOf({"--jwt-keys=k", "--jwt-issuer=i"}), HasSubstr("belong together"));
  EXPECT_THAT(ErrorOf({"--jwt-scope=s"}), HasSubstr("--jwt-scope needs --jwt-keys"));
}

TEST(Config, CallersAreNamedByAKeyThatTheyMaySet) {
  EXPECT_EQ(ReadConfig({"--caller-metadata=x-team.id_2"}).authentication.caller_metadata,
            "x-team.id_2");
  for (const char* key : {"X-Team", "a b", "grpc-timeout", "trace-bin", "authorization"}) {
    EXPECT_THAT(ErrorOf({absl::StrCat("--caller-metadata=", key)}), HasSubstr(key));
  }
}

TEST(Config, NamesAreAListWithCommas) {
  const ServerConfig config = ReadConfig(
      {"--tls-cert=c", "--tls-key=k", "--client-ca=a", "--client-names=a.example,b.example"});
  EXPECT_THAT(config.authentication.client_names, ElementsAre("a.example", "b.example"));
}

TEST(Config, HelpShowsEveryFlagWithItsDefault) {
  const std::string help = Read({"--help"}).value().print.value();
  EXPECT_THAT(help, HasSubstr("--listen HOST:PORT=127.0.0.1:50051"));
  EXPECT_THAT(help, HasSubstr("--max-unary-reply-bytes BYTES=4MiB"));
}

TEST(Config, MarkdownHasARowPerMetric) {
  EXPECT_THAT(Read({"--print-metrics-markdown"}).value().print.value(),
              HasSubstr("| `grpc_server_started_total` | counter |"));
}

TEST(Config, MarkdownHasARowPerFlag) {
  const std::string table = Read({"--print-flags-markdown", "--max-rows=9"}).value().print.value();
  EXPECT_THAT(table, HasSubstr("| `--max-rows` | `IMAGE_VARIATIONS_MAX_ROWS` | `16` |"));
}

TEST(Config, FaultsAreReadAndNotAdvertised) {
  const ServerConfig config = ReadConfig({"--inject-faults=denoise:3=oom"});
  EXPECT_EQ(config.faults, (std::vector{Fault{"denoise", 3, FaultKind::kOutOfMemory}}));
  EXPECT_THAT(ErrorOf({"--inject-faults=boom"}), ::testing::StartsWith("--inject-faults: "));
  EXPECT_THAT(*Read({"--help"}).value().print, Not(::testing::HasSubstr("inject")));
}

}  // namespace
}  // namespace image_variations
