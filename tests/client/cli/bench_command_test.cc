#include "client/cli/bench_command.h"

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_variation_server.h"
#include "tests/client/temporary_folder.h"

namespace image_variations::client {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

// Runs that take no time worth mentioning: at their pace a server that answers at once is loaded.
class BenchCommandTest : public ::testing::Test {
 protected:
  ExitCode Run(const std::vector<std::string>& words) { return RunAgainst(server_, words); }

  ExitCode RunAgainst(const FakeVariationServer& server, std::vector<std::string> words) {
    words.insert(words.begin(), {"bench", picture_, "--server", server.address()});
    return RunWords(words);
  }

  ExitCode RunWords(const std::vector<std::string>& words) {
    out_.str("");
    err_.str("");
    return RunCli(words, {.in = in_,
                          .out = out_,
                          .err = err_,
                          .err_is_terminal = err_is_terminal_,
                          .interrupted = interrupted_,
                          .now = &absl::Now,
                          .sleep = &absl::SleepFor});
  }

  void Refuse(int count) {
    for (int i = 0; i < count; ++i) {
      server_.RefuseNext(
          Refusal(grpc::RESOURCE_EXHAUSTED, "the line is full", "QUEUE_FULL", absl::Seconds(20)));
    }
  }

  TemporaryFolder folder_;
  const std::string picture_ = folder_.Write("cat.png", "a picture");
  FakeVariationServer server_;
  std::istringstream in_;
  std::ostringstream out_;
  std::ostringstream err_;
  bool err_is_terminal_ = false;
  std::atomic<bool> interrupted_ = false;
};

// Half of the requests within half a minute: 7 requests are enough to be sure.
const std::vector<std::string> kEasy = {"--target-latency", "30s", "--percentile", "50",
                                        "--min-duration",   "0"};

std::vector<std::string> With(std::vector<std::string> words,
                              const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST_F(BenchCommandTest, AClosedLoopIsReportedAsTableAndHistory) {
  Refuse(3);
  EXPECT_EQ(Run({"--concurrency", "4", "--requests", "20", "-n", "2", "--distinct", "2",
                 "--check-bytes"}),
            kExitDone);
  EXPECT_THAT(out_.str(), StartsWith("fake/model@main on cpu, fp32: 1 picture, 2 samples; seed 1"));
  EXPECT_THAT(out_.str(), HasSubstr("\n   4 callers  -"));
  EXPECT_THAT(out_.str(), HasSubstr("refused     3 QUEUE_FULL, answered in p50"));
  EXPECT_THAT(out_.str(), HasSubstr("finished    17 requests"));
  EXPECT_THAT(out_.str(), HasSubstr("history: 20 requests, each answered once; 30 variations "
                                    "compared with an equal one, 0 differ\n"));
  EXPECT_EQ(err_.str(), "");
}

TEST_F(BenchCommandTest, ValidIsZeroAndInvalidIsOne) {
  EXPECT_EQ(Run(With(kEasy, {"--rate", "1000", "--requests", "7"})), kExitDone);
  EXPECT_THAT(out_.str(), HasSubstr("1000/s VALID: 50 % of the requests within 30.0 s\n"));
  EXPECT_EQ(Run(With(kEasy, {"--rate", "1000", "--requests", "6"})), kExitFailed);
  EXPECT_THAT(out_.str(), HasSubstr("1000/s INVALID: 50 % of the requests within 30.0 s\n"
                                    "  because     0 of 6 requests missed 30.0 s: 99 % confidence "
                                    "needs 7 requests with no more\n"));
}

// 1000/s is refused, lower rates are not.
TEST_F(BenchCommandTest, FindRateShowsEachProbeAndTheRateItFound) {
  Refuse(7);
  EXPECT_EQ(Run(With(kEasy, {"--find-rate", "--rate", "1000", "--requests", "7", "--overload",
                             "1.5", "--plot", folder_ / "latency.svg"})),
            kExitDone);
  EXPECT_THAT(out_.str(),
              AllOf(HasSubstr("\n      1000/s  INVALID"), HasSubstr("\n       500/s  VALID"),
                    HasSubstr("\n       707/s  VALID"), HasSubstr("\n       958/s  VALID"),
                    HasSubstr("\n      1437/s  VALID")));
  EXPECT_THAT(out_.str(), HasSubstr("\nhighest valid rate: 958 requests per second\n"));
  EXPECT_THAT(out_.str(), HasSubstr("\n958/s VALID"));
  EXPECT_THAT(folder_.Read("latency.svg"),
              AllOf(StartsWith("<svg"), HasSubstr("valid up to 958/s")));
}

TEST_F(BenchCommandTest, ASearchThatFindsNoLimitSaysSo) {
  EXPECT_EQ(Run(With(kEasy, {"--find-rate", "--rate", "1000", "--requests", "7"})), kExitFailed);
  EXPECT_THAT(out_.str(), HasSubstr("\nevery rate up to "));
}

TEST_F(BenchCommandTest, JsonHasEveryFigureAndStdoutNothingElse) {
  Refuse(1);
  EXPECT_EQ(Run(With(kEasy, {"--rate", "500,1000", "--requests", "10", "-n", "1,2", "--deadline",
                             "30s", "--size", "64x64,96x64", "--json", "-"})),
            kExitDone);
  const Json json = Json::parse(out_.str());
  EXPECT_EQ(json["model"]["model_id"], "fake/model@main");
  EXPECT_EQ(json["load"]["scenario"], "open_loop");
  EXPECT_EQ(json["load"]["sample_counts"], Json({1, 2}));
  EXPECT_EQ(json["load"]["sizes"], Json::parse("[[64, 64], [96, 64]]"));
  EXPECT_EQ(json["load"]["deadline_seconds"], 30);
  EXPECT_EQ(json["targets"]["latency_seconds"], 30);
  ASSERT_EQ(json["runs"].size(), 2u);
  const Json& run = json["runs"][0];
  EXPECT_EQ(run["rate"], 500);
  EXPECT_EQ(run["verdict"], "INVALID") << "one refusal asks for more than 10 requests";
  EXPECT_EQ(run["problems"].size(), 1u);
  EXPECT_EQ(run["requests"]["sent"], 10);
  EXPECT_EQ(run["requests"]["finished"], 9);
  EXPECT_EQ(run["requests"]["refused"]["QUEUE_FULL"]["count"], 1);
  EXPECT_EQ(run["latency_seconds"]["count"], 9);
  EXPECT_GT(run["latency_seconds"]["p99"], 0);
  EXPECT_GT(run["per_second"]["goodput"], 0);
  EXPECT_EQ(run["history"]["unanswered"], 0);
  EXPECT_THAT(err_.str(), HasSubstr("history: 20 requests, each answered once\n"));
}

TEST_F(BenchCommandTest, RequestsAreDrawnFromTheLists) {
  const std::string dog = folder_.Write("dog.png", "another picture");
  ASSERT_EQ(Run({dog, "--offline", "--requests", "40", "--steps", "10,20", "--sampler", "ddim,pndm",
                 "--guidance-scale", "1,7.5", "--priority", "batch", "--size", "96x64"}),
            kExitDone);
  std::set<std::string> pictures, samplers;
  std::set<int> steps;
  std::set<float> guidance_scales;
  for (const auto& call : server_.calls()) {
    const auto& request = call.generation();
    pictures.insert(request.image());
    samplers.insert(request.sampler());
    steps.insert(request.step_count());
    guidance_scales.insert(request.guidance_scale());
    EXPECT_EQ(request.width(), 96);
    EXPECT_EQ(request.height(), 64);
    EXPECT_EQ(request.priority(), imagevariations::v1::PRIORITY_BATCH);
    EXPECT_FALSE(call.progress());
  }
  EXPECT_THAT(pictures, ElementsAre("a picture", "another picture"));
  EXPECT_THAT(samplers, ElementsAre("ddim", "pndm"));
  EXPECT_THAT(steps, ElementsAre(10, 20));
  EXPECT_THAT(guidance_scales, ElementsAre(1.0f, 7.5f));
}

TEST_F(BenchCommandTest, BytesThatDifferAreAFailure) {
  std::atomic<int> made = 0;
  FakeVariationServer server({.make_image = [&](int) { return absl::StrCat("image ", ++made); }});
  EXPECT_EQ(
      RunAgainst(server, {"--offline", "--requests", "5", "--distinct", "1", "--check-bytes"}),
      kExitFailed);
  EXPECT_THAT(out_.str(), HasSubstr("4 variations compared with an equal one, 4 differ"));
}

TEST_F(BenchCommandTest, ATerminalSeesHowFarItIs) {
  err_is_terminal_ = true;
  Run({"--offline", "--requests", "5"});
  EXPECT_THAT(err_.str(), HasSubstr("5 sent, 5 running, 0 finished, 0 refused"));
  EXPECT_THAT(err_.str(), ::testing::EndsWith(" \r")) << "and it is taken away";
}

TEST_F(BenchCommandTest, AnInterruptEndsTheRunAndStillReports) {
  interrupted_ = true;
  EXPECT_EQ(Run({"--rate", "1000", "--requests", "5"}), kExitInterrupted);
  EXPECT_THAT(out_.str(), HasSubstr("history: "));
}

TEST_F(BenchCommandTest, AMissingServerIsNamed) {
  EXPECT_EQ(
      RunWords({"bench", picture_, "--offline", "--requests", "5", "--server", "unix:/tmp/nobody"}),
      kExitServer);
  EXPECT_THAT(err_.str(), HasSubstr("no answer from unix:/tmp/nobody"));
}

TEST_F(BenchCommandTest, AMissingPictureIsNamed) {
  EXPECT_EQ(Run({folder_ / "no.png", "--offline", "--requests", "5"}), kExitFailed);
  EXPECT_THAT(err_.str(), HasSubstr("no.png: cannot be read"));
  EXPECT_TRUE(server_.calls().empty());
}

TEST_F(BenchCommandTest, AReportThatCannotBeWrittenIsAFailure) {
  EXPECT_EQ(Run({"--offline", "--requests", "5", "--json", folder_ / "no/folder.json"}),
            kExitFailed);
  EXPECT_THAT(err_.str(), HasSubstr("cannot be written"));
}

TEST_F(BenchCommandTest, HelpExplainsVerdictAndExitCodes) {
  EXPECT_EQ(RunWords({"bench", "--help"}), kExitDone);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("VALID means"), HasSubstr("--find-rate"),
                                HasSubstr("bench: INVALID")));
}

struct Mistake {
  std::vector<std::string> words;
  std::string answer;
};

class BenchUsageTest : public BenchCommandTest, public ::testing::WithParamInterface<Mistake> {};

TEST_P(BenchUsageTest, AMistakeIsAnsweredWithWhatToDo) {
  EXPECT_EQ(Run(GetParam().words), kExitUsage);
  EXPECT_THAT(err_.str(), HasSubstr(GetParam().answer));
  EXPECT_EQ(out_.str(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Mistakes, BenchUsageTest,
    ::testing::Values(
        Mistake{{}, "say how to load the server: --rate"},
        Mistake{{"--rate", "1", "--concurrency", "2"}, "exclude each other"},
        Mistake{{"--find-rate", "--offline", "--requests", "3"}, "exclude each other"},
        Mistake{{"--rate", "0"}, "--rate is 0; it is above 0"},
        Mistake{{"--rate", "fast"}, "--rate"}, Mistake{{"--concurrency", "0"}, "--concurrency"},
        Mistake{{"--find-rate"}, "needs to know what is valid: --target-latency"},
        Mistake{{"--find-rate", "--rate", "1,2", "--target-latency", "2s"}, "leave out the others"},
        Mistake{{"--rate", "1", "--overload", "2"}, "multiplies what --find-rate finds"},
        Mistake{{"--offline"}, "--offline needs to know how many: --requests"},
        Mistake{{"--offline", "--requests", "9", "--target-latency", "2s"}, "measures throughput"},
        Mistake{{"--concurrency", "2", "--plot", "a.svg"}, "--plot shows rates"},
        Mistake{{"--rate", "1", "--deadline", "-2s"}, "a time is negative"},
        Mistake{{"--rate", "1", "--deadline", "2 days"}, "--deadline"},
        Mistake{{"--rate", "1", "--size", "512"}, "--size is '512'; a size is like 512x512"},
        Mistake{{"--rate", "1", "--priority", "high"}, "it is interactive or batch"},
        Mistake{{"--rate", "1", "--percentile", "100"}, "--percentile"},
        Mistake{{"--rate", "1", "--json", "-", "--plot", "-"}, "both write to stdout"},
        Mistake{{"--rate", "1", "-"}, "not from stdin"},
        Mistake{{"--rate", "1", "--find-rat"}, "did you mean --find-rate?"}));

}  // namespace
}  // namespace image_variations::client
