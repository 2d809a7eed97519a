#include "server/request_ledger.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc_status.h"
#include "tests/support/simulated_clock.h"

namespace image_variations {
namespace {

namespace v1 = imagevariations::v1;
using ::testing::ElementsAre;

// Writes down what it hears, a word each.
struct Listener final : GenerateReply {
  std::vector<std::string> heard;

  void OnAdmitted(v1::Admitted, int sample_count) override {
    heard.push_back("admitted " + std::to_string(sample_count));
  }
  void OnProgress(v1::Progress) override { heard.push_back("progress"); }
  void OnPreview(PreviewPicture) override { heard.push_back("preview"); }
  void OnVariation(v1::Variation variation) override { heard.push_back(variation.image()); }
  void OnEnd(absl::StatusOr<v1::Completed> end) override {
    heard.push_back(absl::StatusCodeToString(end.status().code()));
  }
};

v1::GenerateVariationsRequest Request(const std::string& id, const std::string& image = "cat") {
  v1::GenerateVariationsRequest request;
  request.set_request_id(id);
  request.set_image(image);
  return request;
}

v1::Variation Picture(const std::string& bytes) {
  v1::Variation variation;
  variation.set_image(bytes);
  return variation;
}

void Answer(SharedReply& work, const std::string& picture) {
  work.BeginWith([] {});
  work.OnAdmitted({}, 1);
  work.OnVariation(Picture(picture));
  work.OnEnd(v1::Completed());
}

class RequestLedgerTest : public ::testing::Test {
 protected:
  RequestLedger::Claim Join(const std::string& id, Listener& listener,
                            absl::Time deadline = absl::InfiniteFuture()) {
    return ledger.Join("ann", Request(id), deadline, listener).value();
  }

  SimulatedClock clock;
  RequestLedger ledger{{.max_bytes = 20'000, .max_calls_per_request = 2}, clock};
  Listener first, second, third;
};

TEST_F(RequestLedgerTest, FirstCallIsNewAndTheSecondHearsWhatWasAndWillBeSaid) {
  const RequestLedger::Claim claim = Join("a", first);
  EXPECT_TRUE(claim.is_new);
  EXPECT_EQ(claim.work->image(), "cat");
  claim.work->BeginWith([] {});
  claim.work->OnAdmitted({}, 2);
  claim.work->OnPreview({});
  claim.work->OnVariation(Picture("one"));
  EXPECT_FALSE(Join("a", second).is_new);
  claim.work->OnProgress({});
  claim.work->OnPreview({});
  claim.work->OnVariation(Picture("two"));
  claim.work->OnEnd(v1::Completed());
  EXPECT_THAT(first.heard,
              ElementsAre("admitted 2", "preview", "one", "progress", "preview", "two", "OK"));
  // A preview is of its moment.
  EXPECT_THAT(second.heard, ElementsAre("admitted 2", "one", "progress", "preview", "two", "OK"));
}

TEST_F(RequestLedgerTest, OtherContentUnderTheSameIdIsRefused) {
  Join("a", first);
  const absl::Status status =
      ledger.Join("ann", Request("a", "dog"), absl::InfiniteFuture(), second).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(ReasonOf(status), "REQUEST_ID_REUSED");
}

TEST_F(RequestLedgerTest, IdsOfOneCallerMeanNothingToAnother) {
  Answer(*Join("a", first).work, "picture");
  const auto claim = ledger.Join("bob", Request("a", "dog"), absl::InfiniteFuture(), second);
  ASSERT_TRUE(claim.ok()) << claim.status();
  EXPECT_TRUE(claim->is_new);
}

TEST_F(RequestLedgerTest, LeavingEndsOneCallAndOnlyTheLastStopsTheWork) {
  const RequestLedger::Claim claim = Join("a", first);
  int stops = 0;
  claim.work->BeginWith([&] { ++stops; });
  Join("a", second);
  claim.work->Leave(first, absl::CancelledError("gone"));
  EXPECT_THAT(first.heard, ElementsAre("CANCELLED"));
  EXPECT_EQ(stops, 0);
  claim.work->Leave(second, absl::CancelledError("gone"));
  EXPECT_EQ(stops, 1);
  EXPECT_TRUE(second.heard.empty()) << "it hears the end of the work";
  claim.work->OnEnd(absl::CancelledError("stopped"));
  EXPECT_THAT(second.heard, ElementsAre("CANCELLED"));
}

TEST_F(RequestLedgerTest, WorkThatIsGivenUpIsBegunAnew) {
  const RequestLedger::Claim claim = Join("a", first);
  claim.work->BeginWith([] {});
  claim.work->Leave(first, absl::CancelledError("gone"));
  EXPECT_TRUE(Join("a", second).is_new);
  claim.work->OnEnd(absl::CancelledError("stopped"));
  EXPECT_FALSE(Join("a", third).is_new) << "the end of the old work leaves the new one alone";
}

TEST_F(RequestLedgerTest, FailedWorkIsDoneAnew) {
  const RequestLedger::Claim claim = Join("a", first);
  claim.work->BeginWith([] {});
  claim.work->OnEnd(absl::ResourceExhaustedError("the line is full"));
  EXPECT_THAT(first.heard, ElementsAre("RESOURCE_EXHAUSTED"));
  EXPECT_TRUE(Join("a", second).is_new);
}

TEST_F(RequestLedgerTest, CallWithTimeLeftIsToldToComeAgainWhenAnEarlierDeadlineStopsTheWork) {
  const RequestLedger::Claim claim = Join("a", first, clock.Now() + absl::Seconds(1));
  Join("a", second);
  claim.work->BeginWith([] {});
  claim.work->OnEnd(absl::DeadlineExceededError("the deadline passed"));
  EXPECT_THAT(first.heard, ElementsAre("DEADLINE_EXCEEDED"));
  EXPECT_THAT(second.heard, ElementsAre("UNAVAILABLE"));
}

TEST_F(RequestLedgerTest, CallsThatWaitForOneRequestAreLimited) {
  Join("a", first);
  Join("a", second);
  const absl::Status status =
      ledger.Join("ann", Request("a"), absl::InfiniteFuture(), third).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(RetryDelayOf(status), absl::Seconds(1));
}

TEST_F(RequestLedgerTest, AnswersAreKeptForTheirAge) {
  Answer(*Join("a", first).work, "picture");
  clock.Advance(absl::Minutes(10));
  EXPECT_FALSE(Join("a", second).is_new);
  EXPECT_THAT(second.heard, ElementsAre("admitted 1", "picture", "OK"));
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(Join("a", third).is_new);
  EXPECT_EQ(ledger.kept_bytes(), 0);
}

TEST_F(RequestLedgerTest, AnAnswerDoesNotKeepTheMemoryOfItsRequest) {
  const auto claim =
      ledger.Join("ann", Request("a", std::string(1 << 20, 'x')), absl::InfiniteFuture(), first);
  ASSERT_TRUE(claim.ok());
  Answer(*claim->work, "picture");
  EXPECT_LE(claim->work->image().capacity(), 100u);
}

TEST_F(RequestLedgerTest, KeptBytesAreMemoryNotLength) {
  v1::Variation picture = Picture("picture");
  picture.mutable_image()->reserve(100'000);
  const RequestLedger::Claim claim = Join("a", first);
  claim.work->BeginWith([] {});
  claim.work->OnAdmitted({}, 1);
  claim.work->OnVariation(std::move(picture));
  EXPECT_GE(claim.work->bytes(), 100'000);
  claim.work->OnEnd(v1::Completed());  // until then it keeps itself
}

TEST_F(RequestLedgerTest, OldestAnswersGoWhenTheirBytesAreTooMany) {
  Answer(*Join("a", first).work, std::string(5'000, 'a'));
  Answer(*Join("b", first).work, std::string(5'000, 'b'));
  EXPECT_LE(ledger.kept_bytes(), 20'000);
  Answer(*Join("c", first).work, std::string(5'000, 'c'));
  EXPECT_LE(ledger.kept_bytes(), 20'000);
  EXPECT_TRUE(Join("a", second).is_new);
  EXPECT_FALSE(Join("b", second).is_new);
  EXPECT_FALSE(Join("c", third).is_new);
}

}  // namespace
}  // namespace image_variations
