#include "pipeline/engine/self_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "pipeline/engine/row_buckets.h"
#include "tests/support/fake_model_runner.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

using ::testing::IsEmpty;

constexpr int kMaxRows = 16;

class SelfTest : public ::testing::Test {
 protected:
  absl::StatusOr<bool> Run(SelfTestOptions options = {.size = {8, 8},
                                                      .call_rows = RowBuckets(kMaxRows)}) {
    constexpr JobId kJob{7};
    EXPECT_TRUE(runner_.EmbedImage(kJob, {}, Preprocessing::kModelCard).ok());
    const absl::StatusOr<SelfTestResult> result = TestReproducibility(
        runner_, kJob, [this](SlotId slot) { return runner_.LatentsOf(slot); }, clock_, options);
    EXPECT_EQ(runner_.embedded_jobs(), 1);
    runner_.Forget(kJob);
    if (!result.ok()) return result.status();
    calls_ = result->calls;
    return result->is_reproducible;
  }
  void TearDown() override { EXPECT_THAT(runner_.breaches, IsEmpty()); }

  SimulatedClock clock_;
  FakeModelRunner runner_;
  std::vector<TimedCall> calls_;
};

TEST_F(SelfTest, BelievesKernelsThatDoNotDependOnTheBatch) { EXPECT_TRUE(Run().value()); }

TEST_F(SelfTest, FindsKernelsThatDependOnTheRowCount) {
  runner_.depends_on_batch = [](int call_rows, int) { return static_cast<uint64_t>(call_rows); };
  EXPECT_FALSE(Run().value());
}

TEST_F(SelfTest, FindsAnErrorOfOneRowCountWhicheverItIs) {
  for (const int wrong : RowBuckets(kMaxRows)) {
    runner_.depends_on_batch = [wrong](int call_rows, int) { return call_rows == wrong ? 1u : 0u; };
    EXPECT_FALSE(Run().value()) << wrong << " rows";
  }
}

TEST_F(SelfTest, FindsAnErrorOfOneRowWhicheverItIs) {
  for (int wrong = 1; wrong < kMaxRows; ++wrong) {
    runner_.depends_on_batch = [wrong](int, int first_row) { return first_row == wrong ? 1u : 0u; };
    EXPECT_FALSE(Run().value()) << "row " << wrong;
  }
}

TEST_F(SelfTest, TriesCallsWithDeadRows) {
  std::set<std::pair<int, int>> calls;  // rows of samples, of the call
  int living = 0;
  runner_.on_denoise = [&](absl::Span<const StepRow> rows) {
    living = 0;
    for (const StepRow& row : rows) living += RowsPerStep(row.guidance_scale);
  };
  runner_.on_call = [&](absl::string_view verb, int rows) {
    if (verb == "Denoise") calls.emplace(living, rows);
  };
  EXPECT_TRUE(Run().value());
  for (const auto& call : {std::pair(5, 6), {7, 8}, {11, 12}, {15, 16}, {16, 16}}) {
    EXPECT_TRUE(calls.contains(call)) << call.first << " of " << call.second;
  }
}

TEST_F(SelfTest, AQuickTestShowsAnErrorWhereverASampleBegins) {
  for (const int rows : {2, 3}) {
    const SelfTestOptions quick{
        .size = {8, 8}, .call_rows = {rows}, .max_slots = rows, .is_quick = true};
    runner_.depends_on_batch = nullptr;
    EXPECT_TRUE(Run(quick).value());
    for (const int wrong : {0, 1}) {
      runner_.depends_on_batch = [wrong](int, int first_row) {
        return first_row == wrong ? 1u : 0u;
      };
      EXPECT_FALSE(Run(quick).value()) << "row " << wrong;
    }
    runner_.depends_on_batch = [](int call_rows, int) { return call_rows > 1 ? 1u : 0u; };
    EXPECT_FALSE(Run(quick).value()) << "of calls of more than one row";
  }
}

TEST_F(SelfTest, TellsTheShortestCallOfEachRowCount) {
  constexpr int kMilliseconds[] = {900, 200, 450, 250, 500, 600};
  int calls = 0;
  runner_.on_denoise = [&](absl::Span<const StepRow>) {
    clock_.Advance(absl::Milliseconds(kMilliseconds[calls++]));
  };
  EXPECT_TRUE(Run({.size = {16, 8}, .call_rows = {2}}).value());
  EXPECT_EQ(calls, 6);
  ASSERT_EQ(calls_.size(), 2);
  EXPECT_EQ(calls_[0].size, (LatentSize{16, 8}));
  EXPECT_EQ(calls_[0].rows, 1);
  EXPECT_EQ(calls_[0].time, absl::Milliseconds(200));
  EXPECT_EQ(calls_[1].rows, 2);
  EXPECT_EQ(calls_[1].time, absl::Milliseconds(450));
}

TEST_F(SelfTest, LeavesOutOfARowsTimeWhatAFirstCallPaidFor) {
  constexpr int kMilliseconds[] = {900, 500};
  int calls = 0;
  runner_.on_denoise = [&](absl::Span<const StepRow>) {
    clock_.Advance(absl::Milliseconds(kMilliseconds[calls++]));
  };
  EXPECT_TRUE(Run({.size = {16, 8}, .call_rows = {2}, .is_quick = true}).value());
  EXPECT_EQ(calls, 2);
  ASSERT_EQ(calls_.size(), 2);
  EXPECT_EQ(calls_[0].rows, 1);
  EXPECT_EQ(calls_[0].time, absl::Milliseconds(250));
  EXPECT_EQ(calls_[1].rows, 2);
  EXPECT_EQ(calls_[1].time, absl::Milliseconds(500));
}

TEST_F(SelfTest, LeavesOutWhatTheDeviceHasNoMemoryFor) {
  runner_.fault = [](absl::string_view, int rows) {
    return rows > 8 ? absl::ResourceExhaustedError("planted") : absl::OkStatus();
  };
  EXPECT_TRUE(Run().value());
}

TEST_F(SelfTest, DoesNotBelieveWhatIsNoNumber) {
  runner_.seeds_not_finite = {1};
  runner_.step_not_finite = 1;
  EXPECT_EQ(Run().status().message(), "the UNet's output is not finite");
}

TEST_F(SelfTest, SaysWhyTheNetworksDoNotRun) {
  runner_.fault = [](absl::string_view verb, int) {
    return verb == "Denoise" ? absl::InternalError("planted") : absl::OkStatus();
  };
  EXPECT_EQ(Run().status().message(), "planted");
}

}  // namespace
}  // namespace image_variations
