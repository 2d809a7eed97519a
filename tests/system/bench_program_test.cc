// The load generator against the real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/system/programs.h"

namespace image_variations {
namespace {

using Json = nlohmann::json;

// Of one run of bench, which has to end with 0.
Json Measure(const ServerProcess& server, std::vector<std::string> words) {
  words.insert(words.begin(), {"bench", kPictures / "penguin.png", kPictures / "still-life.jpg",
                               "--server", server.address(), "--json", "-"});
  const Finished run = RunCli(words);
  EXPECT_EQ(run.exit_code, 0) << run.errors;
  const Json json = Json::parse(run.output, nullptr, false);
  return json["runs"][0];
}

TEST(Bench, EqualRequestsHaveEqualBytesWhateverTheirCompany) {
  const ServerProcess server;
  const Json run = Measure(
      server, {"--concurrency", "16", "--requests", "48", "--distinct", "8", "--steps", "2,4",
               "--sampler", "ddim,euler,pndm", "--guidance-scale", "1,3", "--check-bytes"});
  EXPECT_EQ(run["requests"]["finished"], 48);
  EXPECT_EQ(run["history"]["unanswered"], 0);
  EXPECT_GE(run["history"]["compared_variations"], 40);
  EXPECT_EQ(run["history"]["differing_variations"], 0);
  EXPECT_GE(run["rows_per_unet_call"], 1);
}

// UNet calls of an engine, as the server counts them.
int64_t UnetCalls(const ServerProcess& server, int engine) {
  const std::string name =
      absl::StrCat("\nimage_variations_unet_steps_total{engine=\"", engine, "\"} ");
  const std::string text = server.Metrics();
  const size_t at = text.find(name) + name.size();
  int64_t calls = -1;
  EXPECT_TRUE(absl::SimpleAtoi(text.substr(at, text.find('\n', at) - at), &calls)) << text;
  return calls;
}

TEST(Bench, TwoEnginesShareTheRequestsAndTheirBytes) {
  const ServerProcess server({"--device", "cpu", "--device", "cpu", "--threads", "1"});
  const auto model = server.Connect().GetModel();
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ(model->devices.size(), 2);
  EXPECT_EQ(model->devices[0].fingerprint, model->devices[1].fingerprint);
  EXPECT_TRUE(model->reproducible);
  const Json run = Measure(server, {"--concurrency", "8", "--requests", "32", "--distinct", "4",
                                    "--steps", "2,4", "--check-bytes"});
  EXPECT_EQ(run["requests"]["finished"], 32);
  EXPECT_GE(run["history"]["compared_variations"], 20);
  EXPECT_EQ(run["history"]["differing_variations"], 0);
  EXPECT_GT(UnetCalls(server, 0), 0);
  EXPECT_GT(UnetCalls(server, 1), 0);
}

// Far more than it can do within the deadline: some are refused or run out of time, none is
// forgotten, and the server serves on.
TEST(Bench, UnderOverloadEveryRequestIsAnsweredOnce) {
  const ServerProcess server;
  const Json run = Measure(server, {"--rate", "300", "--duration", "2s", "--steps", "10",
                                    "--deadline", "500ms", "--cancel", "0.05"});
  const Json& requests = run["requests"];
  int64_t answered = requests["finished"].get<int64_t>() + requests["given_up"].get<int64_t>();
  for (const Json& refusal : requests["refused"]) answered += refusal["count"].get<int64_t>();
  for (const Json& failure : requests["failed"]) answered += failure.get<int64_t>();
  EXPECT_GT(requests["sent"], 500);
  EXPECT_EQ(answered, requests["sent"]);
  EXPECT_LT(requests["finished"], requests["sent"]);
  EXPECT_EQ(run["history"]["unanswered"], 0);
  EXPECT_EQ(run["history"]["surplus_answers"], 0);
  EXPECT_EQ(run["history"]["mistaken_answers"], 0);
  EXPECT_EQ(
      Measure(server, {"--offline", "--requests", "4", "--steps", "2"})["requests"]["finished"], 4);
}

}  // namespace
}  // namespace image_variations
