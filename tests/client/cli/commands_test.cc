#include "client/cli/commands.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/image/codec.h"
#include "tests/client/fake_variation_server.h"
#include "tests/client/temporary_folder.h"
#include "tests/client/virtual_time.h"

namespace image_variations::client {
namespace {

namespace pb = imagevariations::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

std::string PlainPng(uint8_t value) {
  return *EncodeImage({.width = 64, .height = 64, .rgb = std::vector<uint8_t>(64 * 64 * 3, value)},
                      {});
}

std::string VariationPng(int index) { return PlainPng(static_cast<uint8_t>(50 * (index + 1))); }

class CommandsTest : public ::testing::Test {
 protected:
  CommandsTest() : server_({.make_image = VariationPng}) {}

  ExitCode Run(std::vector<std::string> words) { return RunAgainst(server_, std::move(words)); }

  // `words` with the address of the server added.
  ExitCode RunAgainst(const FakeVariationServer& server, std::vector<std::string> words) {
    words.insert(words.begin() + 1, {"--server", server.address()});
    return RunWords(words);
  }

  ExitCode RunWords(const std::vector<std::string>& words) {
    ConnectOptions hooks;
    time_.Use(hooks);
    out_.str("");
    err_.str("");
    return RunCli(words, {.in = in_,
                          .out = out_,
                          .err = err_,
                          .in_is_terminal = in_is_terminal_,
                          .out_is_terminal = out_is_terminal_,
                          .err_is_terminal = err_is_terminal_,
                          .interrupted = interrupted_,
                          .now = hooks.now,
                          .sleep = hooks.sleep});
  }

  std::string Picture(const std::string& name) { return folder_.Write(name, PlainPng(9)); }

  TemporaryFolder folder_;
  FakeVariationServer server_;
  VirtualTime time_;
  std::istringstream in_;
  std::ostringstream out_;
  std::ostringstream err_;
  bool in_is_terminal_ = false;
  bool out_is_terminal_ = false;
  bool err_is_terminal_ = false;
  std::atomic<bool> interrupted_ = false;
};

TEST_F(CommandsTest, VaryWritesVariationsAndSheetAndPrintsTheirPaths) {
  EXPECT_EQ(Run({"vary", Picture("penguin.png"), "-n", "2", "--seed", "1", "-o", folder_ / "out"}),
            kExitDone);
  EXPECT_EQ(out_.str(), folder_ / "out/penguin-0-seed1.png\n" +
                            folder_ / "out/penguin-1-seed2.png\n" +
                            folder_ / "out/contact-sheet.png\n");
  EXPECT_EQ(folder_.Read("out/penguin-0-seed1.png"), VariationPng(0));
  EXPECT_EQ(folder_.Read("out/penguin-1-seed2.png"), VariationPng(1));
  EXPECT_THAT(err_.str(), HasSubstr("2 variations in 3.0 s (seed 1, guidance 3, 25 steps, pndm)"));
}

TEST_F(CommandsTest, TheSheetShowsSourceAndVariations) {
  ASSERT_EQ(Run({"vary", Picture("penguin.png"), "-n", "2", "--sheet", folder_ / "sheet.png", "-o",
                 folder_.path()}),
            kExitDone);
  const Image sheet = *DecodeImage(folder_.Read("sheet.png"), {});
  const auto pixel = [&](int cell) {
    return static_cast<int>(
        sheet.rgb[static_cast<size_t>((100 * sheet.width + 100 + cell * 208) * 3)]);
  };
  EXPECT_EQ(sheet.width, 16 + 3 * 208);
  EXPECT_EQ(pixel(0), 9);
  EXPECT_EQ(pixel(1), 50);
  EXPECT_EQ(pixel(2), 100);
}

TEST_F(CommandsTest, OptionsReachTheServer) {
  ASSERT_EQ(Run({"vary",
                 Picture("a.png"),
                 "-n",
                 "3",
                 "--seed",
                 "-5",
                 "--guidance-scale",
                 "7.5",
                 "--steps",
                 "50",
                 "--sampler",
                 "ddim",
                 "--eta",
                 "0.5",
                 "--width",
                 "512",
                 "--height",
                 "256",
                 "--format",
                 "jpeg",
                 "--quality",
                 "80",
                 "--preprocessing",
                 "clip",
                 "--priority",
                 "batch",
                 "--no-metadata",
                 "--no-sheet",
                 "-o",
                 folder_.path()}),
            kExitDone);
  pb::GenerateVariationsRequest request = server_.calls()[0].generation();
  request.clear_image();
  request.clear_request_id();
  EXPECT_EQ(
      request.ShortDebugString(),
      "sample_count: 3 seed: -5 guidance_scale: 7.5 step_count: 50 sampler: \"ddim\" eta: 0.5 "
      "width: 512 height: 256 preprocessing: PREPROCESSING_CLIP_PROCESSOR "
      "output { mime_type: \"image/jpeg\" jpeg_quality: 80 omit_metadata: true } "
      "priority: PRIORITY_BATCH");
}

TEST_F(CommandsTest, AnUnreadablePictureIsSaidAndTheOthersAreDone) {
  EXPECT_EQ(
      Run({"vary", folder_ / "missing.png", Picture("b.png"), "--seed", "1", "-o", folder_.path()}),
      kExitFailed);
  EXPECT_TRUE(folder_.Has("b-0-seed1.png"));
  EXPECT_THAT(err_.str(), HasSubstr("missing.png: cannot be read: No such file or directory"));
}

TEST_F(CommandsTest, ASecondRunOfTheSameCommandWritesNothingNew) {
  const std::vector<std::string> words = {"vary", Picture("a.png"), "--seed", "1",
                                          "-o",   folder_ / "out"};
  ASSERT_EQ(Run(words), kExitDone);
  const std::string first = out_.str();
  ASSERT_EQ(Run(words), kExitDone);
  EXPECT_EQ(out_.str(), first);
}

TEST_F(CommandsTest, AFileThatIsThereIsKeptUnlessForced) {
  folder_.Write("a-0-seed1.png", "mine");
  std::vector<std::string> words = {"vary", Picture("a.png"), "--seed", "1", "--no-sheet",
                                    "-o",   folder_.path()};
  ASSERT_EQ(Run(words), kExitDone);
  EXPECT_EQ(folder_.Read("a-0-seed1.png"), "mine");
  EXPECT_EQ(out_.str(), folder_ / "a-0-seed1-2.png\n");
  EXPECT_THAT(err_.str(), HasSubstr("is kept"));
  words.push_back("--force");
  ASSERT_EQ(Run(words), kExitDone);
  EXPECT_EQ(folder_.Read("a-0-seed1.png"), VariationPng(0));
  EXPECT_THAT(err_.str(), HasSubstr("replaced"));
}

TEST_F(CommandsTest, BlockedAndFailedSamplesAreReportedAndHaveTheirExitCode) {
  FakeVariationServer server(
      {.make_image = VariationPng,
       .outcomes = {{1, pb::Variation::OUTCOME_FILTERED}, {2, pb::Variation::OUTCOME_FAILED}}});
  EXPECT_EQ(RunAgainst(server,
                       {"vary", Picture("a.png"), "-n", "3", "--seed", "1", "-o", folder_ / "out"}),
            kExitSamplesMissing);
  EXPECT_THAT(err_.str(), HasSubstr("1 of 3 variations"));
  EXPECT_THAT(err_.str(), HasSubstr("1 blocked by the safety checker"));
  EXPECT_THAT(err_.str(), HasSubstr("variation 2 failed: latents are not finite"));
  EXPECT_TRUE(folder_.Has("out/a-0-seed1.png"));
  EXPECT_FALSE(folder_.Has("out/a-1-seed2.png"));
  EXPECT_TRUE(folder_.Has("out/contact-sheet.png"));
}

TEST_F(CommandsTest, JsonHasParametersMetricsFilesAndOutcomeOfEachPicture) {
  ASSERT_EQ(Run({"vary", Picture("a.png"), "--seed", "1", "--guidance-scale", "0.1", "--json", "-o",
                 folder_ / "out"}),
            kExitDone);
  const Json json = Json::parse(out_.str());
  EXPECT_EQ(json["picture"], folder_ / "a.png");
  EXPECT_EQ(json["outcome"], "done");
  EXPECT_EQ(json["parameters"]["seed"], 1);
  EXPECT_EQ(json["parameters"]["guidance_scale"].dump(), "0.1");
  EXPECT_EQ(json["metrics"]["total_seconds"], 3.0);
  EXPECT_EQ(json["variations"][0]["file"], folder_ / "out/a-0-seed1.png");
  EXPECT_EQ(json["variations"][0]["similarity"], 0.5);
  EXPECT_FALSE(json.contains("error"));
}

TEST_F(CommandsTest, JsonIsOneLineForEachPictureAndHasTheError) {
  server_.RefuseNext(FieldRefusal("guidance_scale is 99, limit 20", "guidance_scale"));
  EXPECT_EQ(Run({"vary", Picture("a.png"), Picture("b.png"), "--json", "-o", folder_.path()}),
            kExitFailed);
  std::istringstream lines(out_.str());
  std::string first, second, third;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_FALSE(std::getline(lines, third));
  const Json json = Json::parse(first);
  EXPECT_EQ(json["outcome"], "failed");
  EXPECT_EQ(json["error"]["code"], "INVALID_ARGUMENT");
  EXPECT_EQ(json["error"]["reason"], "INVALID_FIELD");
  EXPECT_EQ(json["error"]["field_violations"][0]["field"], "guidance_scale");
  EXPECT_EQ(Json::parse(second)["outcome"], "done");
}

TEST_F(CommandsTest, StdinToStdoutWritesTheBytesAndNothingElse) {
  in_.str(PlainPng(9));
  EXPECT_EQ(Run({"vary", "-", "-o", "-"}), kExitDone);
  EXPECT_EQ(out_.str(), VariationPng(0));
  EXPECT_EQ(server_.calls()[0].generation().image(), PlainPng(9));
}

TEST_F(CommandsTest, ImageBytesAreNotWrittenToATerminal) {
  out_is_terminal_ = true;
  EXPECT_EQ(Run({"vary", Picture("a.png"), "-o", "-"}), kExitUsage);
  EXPECT_THAT(err_.str(), HasSubstr("redirect it"));
  EXPECT_TRUE(server_.calls().empty());
}

TEST_F(CommandsTest, APictureIsNotReadFromATerminal) {
  in_is_terminal_ = true;
  EXPECT_EQ(Run({"vary", "-", "-o", folder_.path()}), kExitUsage);
  EXPECT_THAT(err_.str(), HasSubstr("pipe one in"));
}

TEST_F(CommandsTest, StdoutTakesOneVariationOfOnePicture) {
  EXPECT_EQ(Run({"vary", "a.png", "-n", "2", "-o", "-"}), kExitUsage);
  EXPECT_EQ(Run({"vary", "a.png", "b.png", "-o", "-"}), kExitUsage);
  EXPECT_EQ(Run({"vary", "a.png", "--json", "-o", "-"}), kExitUsage);
}

TEST_F(CommandsTest, ARefusedPictureIsTriedAgainAndTheWaitIsSaid) {
  for (int i = 0; i < 2; ++i) {
    server_.RefuseNext(
        Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", absl::Seconds(20)));
  }
  EXPECT_EQ(Run({"vary", Picture("a.png"), "-o", folder_.path()}), kExitDone);
  EXPECT_GE(time_.slept(), absl::Seconds(40));
  EXPECT_THAT(err_.str(), HasSubstr("the line is full; trying again in"));
  EXPECT_THAT(err_.str(), HasSubstr("(attempt 3 of 4)"));
}

TEST_F(CommandsTest, RetriesZeroGivesUpAtOnce) {
  server_.RefuseNext(
      Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", absl::Seconds(20)));
  EXPECT_EQ(Run({"vary", Picture("a.png"), "--retries", "0", "-o", folder_.path()}), kExitServer);
  EXPECT_EQ(time_.slept(), absl::ZeroDuration());
  EXPECT_THAT(err_.str(), HasSubstr("may take the work in 0:20"));
}

TEST_F(CommandsTest, AMissingServerIsNamedAndAskedOnce) {
  EXPECT_EQ(RunWords({"vary", Picture("a.png"), Picture("b.png"), "--server", "unix:/tmp/nobody",
                      "--retries", "0", "-q", "--json", "-o", folder_.path()}),
            kExitServer);
  EXPECT_THAT(err_.str(), HasSubstr("no answer from unix:/tmp/nobody (No such file or directory)"));
  EXPECT_THAT(err_.str(), HasSubstr("\nimage-variations: pictures that were not sent: 1\n"));
  const std::string objects = out_.str();
  EXPECT_EQ(std::count(objects.begin(), objects.end(), '\n'), 2);
}

TEST_F(CommandsTest, AMissingServerIsNamedAtEachAttempt) {
  RunWords({"vary", Picture("a.png"), "--server", "unix:/tmp/nobody", "--retries", "1", "-o",
            folder_.path()});
  EXPECT_THAT(err_.str(), HasSubstr("no answer from unix:/tmp/nobody (No such file or directory); "
                                    "trying again in 0:02 (attempt 2 of 2)"));
}

TEST_F(CommandsTest, AnInterruptEndsTheRun) {
  interrupted_ = true;
  EXPECT_EQ(Run({"vary", Picture("a.png"), "-o", folder_.path()}), kExitInterrupted);
  EXPECT_THAT(err_.str(), HasSubstr("interrupted"));
}

TEST_F(CommandsTest, ATerminalGetsABarAndAPipePlainLines) {
  ASSERT_EQ(Run({"vary", Picture("a.png"), "-o", folder_.path()}), kExitDone);
  EXPECT_THAT(err_.str(), HasSubstr("25/25 steps\n"));
  EXPECT_THAT(err_.str(), Not(HasSubstr("\r")));
  err_is_terminal_ = true;
  ASSERT_EQ(Run({"vary", Picture("a.png"), "-o", folder_.path()}), kExitDone);
  EXPECT_THAT(err_.str(), HasSubstr("a.png  [###########-------------]  12/25 steps, 0:01 left"));
}

TEST_F(CommandsTest, QuietStillTellsOfMissingSamples) {
  FakeVariationServer server({.outcomes = {{0, pb::Variation::OUTCOME_FILTERED}}});
  EXPECT_EQ(RunAgainst(server, {"vary", Picture("a.png"), "-q", "-o", folder_.path()}),
            kExitSamplesMissing);
  EXPECT_THAT(err_.str(), HasSubstr("0 of 1 variation in 3.0 s, 1 blocked"));
}

TEST_F(CommandsTest, QuietSaysNothing) {
  ASSERT_EQ(Run({"vary", Picture("a.png"), "-q", "-o", folder_.path()}), kExitDone);
  EXPECT_EQ(err_.str(), "");
}

TEST_F(CommandsTest, TheServerComesFromTheEnvironmentUnlessNamed) {
  server_.SetServing(true);
  setenv("IMAGE_VARIATIONS_SERVER", "unix:/tmp/nobody-in-the-environment", 1);
  EXPECT_EQ(RunWords({"health"}), kExitFailed);
  EXPECT_THAT(err_.str(), HasSubstr("no answer from unix:/tmp/nobody-in-the-environment"));
  EXPECT_EQ(Run({"health"}), kExitDone);
  unsetenv("IMAGE_VARIATIONS_SERVER");
}

TEST_F(CommandsTest, ATimeThatIsTooShortIsTheServersExitCodeAndSaysWhatToGive) {
  server_.RefuseNext({grpc::DEADLINE_EXCEEDED, "deadline"});
  EXPECT_EQ(Run({"vary", Picture("a.png"), "--timeout", "2m", "-o", folder_.path()}), kExitServer);
  EXPECT_THAT(err_.str(), HasSubstr("not done within 2m; give it more time (--timeout)"));
}

TEST_F(CommandsTest, HealthIsZeroWhenServingAndOneOtherwise) {
  server_.SetServing(true);
  EXPECT_EQ(Run({"health"}), kExitDone);
  EXPECT_EQ(out_.str(), "SERVING\n");
  server_.SetServing(false);
  EXPECT_EQ(Run({"health"}), kExitFailed);
  EXPECT_EQ(out_.str(), "NOT_SERVING\n");
  EXPECT_EQ(Run({"health", "--service", "no.such.Service"}), kExitFailed);
  EXPECT_EQ(RunWords({"health", "--server", "unix:/tmp/nobody"}), kExitFailed);
}

TEST_F(CommandsTest, InfoTellsModelLimitsAndLoad) {
  EXPECT_EQ(Run({"info"}), kExitDone);
  EXPECT_THAT(out_.str(), HasSubstr("fake/model@main"));
  EXPECT_THAT(out_.str(), HasSubstr("pndm, ddim"));
  EXPECT_THAT(out_.str(), HasSubstr("serving; 8 rows running, 3 samples waiting"));
  EXPECT_THAT(out_.str(), HasSubstr("device 1     cuda:0"));
  EXPECT_THAT(out_.str(), HasSubstr("device 1     6 rows running"));
}

TEST_F(CommandsTest, InfoAsJson) {
  EXPECT_EQ(Run({"info", "--json"}), kExitDone);
  const Json json = Json::parse(out_.str());
  EXPECT_EQ(json["device"], "cpu");
  EXPECT_EQ(json["limits"]["max_sample_count"], 16);
  EXPECT_EQ(json["status"]["step_costs"][0]["seconds"], 0.25);
  EXPECT_EQ(json["devices"][1]["device"], "cuda:0");
  EXPECT_EQ(json["status"]["devices"][1]["step_costs"][0]["seconds"], 0.25);
}

TEST_F(CommandsTest, HelpGoesToStdoutWithExamplesFirst) {
  EXPECT_EQ(RunWords({"vary", "--help"}), kExitDone);
  EXPECT_LT(out_.str().find("Examples:"), out_.str().find("Options:"));
  EXPECT_THAT(out_.str(), HasSubstr("Exit codes:"));
  EXPECT_EQ(RunWords({}), kExitDone);
  EXPECT_THAT(out_.str(), HasSubstr("Usage: image-variations"));
}

struct Mistake {
  std::vector<std::string> words;
  std::string answer;
};

class UsageTest : public CommandsTest, public ::testing::WithParamInterface<Mistake> {};

TEST_P(UsageTest, AMistakeIsAnsweredWithWhatToDo) {
  EXPECT_EQ(RunWords(GetParam().words), kExitUsage);
  EXPECT_THAT(err_.str(), HasSubstr(GetParam().answer));
  EXPECT_EQ(out_.str(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Mistakes, UsageTest,
    ::testing::Values(Mistake{{"vari", "a.png"}, "did you mean vary?"},
                      Mistake{{"a.png"}, "did you mean image-variations vary a.png?"},
                      Mistake{{"vary", "a.png", "--guidence", "3"},
                              "did you mean --guidance-scale?"},
                      Mistake{{"vary", "a.png", "--timeout", "-5s"}, "--timeout is negative"},
                      Mistake{{"--json", "vary", "a.png"}, "--json belongs after the command"},
                      Mistake{{"vary"}, "PICTURE is required"},
                      Mistake{{"vary", "a.png", "--format", "gif"}, "gif not in {png,jpeg}"},
                      Mistake{{"vary", "a.png", "--steps", "many"}, "--steps"},
                      Mistake{{"vary", "-", "-"}, "only one of the pictures"},
                      Mistake{{"vary", "a.png", "--sheet", "s.png", "--no-sheet"}, "contradict"},
                      Mistake{{"health", "now"}, "'now' is one word too many"}));

}  // namespace
}  // namespace image_variations::client
