// "The same bytes for a seed, whatever the company", on the real server: every request is made once
// alone, then some hundreds at the same time in a random order, and each picture must have the
// bytes that it had alone.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/system/programs.h"

namespace image_variations {
namespace {

using client::VariationRequest;

constexpr int kRequests = 240;
constexpr int kCallers = 12;

// Requests that differ in everything that may differ.
std::vector<VariationRequest> MixedRequests() {
  const std::vector<std::string> samplers = {
      "pndm", "ddim", "euler-ancestral", "heun", "lms", "dpmpp-2m-sde-karras", "unipc", "lcm"};
  const std::vector<std::pair<int, int>> sizes = {{64, 64}, {64, 64}, {64, 64}, {96, 64}, {60, 76}};
  const std::vector<float> guidance = {1.0f, 3.0f, 7.5f};
  const std::vector<std::string> pictures = {"penguin.png", "cactus.png", "house.png",
                                             "still-life.jpg"};
  std::vector<VariationRequest> requests;
  for (int i = 0; i < 30; ++i) {
    const auto at = [i](const auto& list, int stride) {
      return list[static_cast<size_t>(i / stride) % list.size()];
    };
    const auto [width, height] = at(sizes, 1);
    requests.push_back(
        {.image = ReadFile(kPictures / at(pictures, 3)),
         .sample_count = 1 + i % 3,
         .seed = 1000 + i,
         .guidance_scale = at(guidance, 2),
         .step_count = 2 + i % 7,
         .sampler = at(samplers, 1),
         .width = width,
         .height = height,
         .mime_type = i % 5 == 4 ? "image/jpeg" : "image/png",
         // The request's id is not in the picture: the same bytes for every caller.
         .priority = i % 4 == 3 ? client::Priority::kBatch : client::Priority::kInteractive});
    if (i % 8 == 1 && requests.back().sampler == "ddim") requests.back().eta = 1.0f;
  }
  return requests;
}

std::vector<std::string> Bytes(const client::VariationResult& result) {
  std::vector<std::string> bytes;
  for (const client::Variation& variation : result.variations) bytes.push_back(variation.image);
  return bytes;
}

// Rows that it has in a UNet call of its own.
int OwnRows(const VariationRequest& request) {
  return request.sample_count * (*request.guidance_scale > 1 ? 2 : 1);
}

TEST(SameBytes, EveryPictureHasTheBytesThatItHasAlone) {
  const ServerProcess server({"--max-requests", "1000"});
  const client::Client client = server.Connect();
  ASSERT_TRUE(client.GetModel()->reproducible);

  const std::vector<VariationRequest> requests = MixedRequests();
  std::vector<std::vector<std::string>> alone;
  for (const VariationRequest& request : requests) {
    const auto result = client.Vary(request);
    ASSERT_TRUE(result.ok()) << result.status();
    alone.push_back(Bytes(*result));
  }

  std::atomic<int> next = 0;
  std::atomic<int> compared = 0;
  std::atomic<int> in_company = 0;
  const auto call = [&](int caller) {
    std::mt19937 random(static_cast<unsigned>(caller));
    while (next++ < kRequests) {
      const size_t which = random() % requests.size();
      if (random() % 6 == 0) {  // somebody who leaves in the middle
        VariationRequest impatient = requests[which];
        impatient.deadline = absl::Now() + absl::Milliseconds(random() % 80);
        static_cast<void>(client.Vary(impatient));
        continue;
      }
      const auto result = client.Vary(requests[which]);
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_EQ(Bytes(*result), alone[which]) << "request " << which << " of caller " << caller;
      ++compared;
      in_company += result->metrics.mean_batch_rows > OwnRows(requests[which]);
    }
  };
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) callers.emplace_back(call, caller);
  for (std::thread& caller : callers) caller.join();

  EXPECT_GE(compared, 190);
  EXPECT_GE(in_company, 40) << "too few shared their UNet calls with others";
}

TEST(SameBytes, ASampleIsItsSeedAlone) {
  const ServerProcess server;
  const client::Client client = server.Connect();
  const VariationRequest four{
      .image = ReadFile(kPictures / "penguin.png"), .sample_count = 4, .seed = 7, .step_count = 4};
  const auto together = client.Vary(four);
  ASSERT_TRUE(together.ok()) << together.status();
  for (const client::Variation& variation : together->variations) {
    VariationRequest one = four;
    one.sample_count = 1;
    one.seed = variation.seed;
    const auto alone = client.Vary(one);
    ASSERT_TRUE(alone.ok()) << alone.status();
    EXPECT_EQ(alone->variations[0].image, variation.image) << "seed " << variation.seed;
  }
}

TEST(SameBytes, ASecondServerGivesThemToo) {
  const VariationRequest request{
      .image = ReadFile(kPictures / "fox.png"), .seed = 11, .step_count = 4};
  std::vector<std::string> images;
  for (int run = 0; run < 2; ++run) {
    const ServerProcess server;
    const auto result = server.Connect().Vary(request);
    ASSERT_TRUE(result.ok()) << result.status();
    images.push_back(result->variations[0].image);
  }
  EXPECT_EQ(images[0], images[1]);
}

}  // namespace
}  // namespace image_variations
