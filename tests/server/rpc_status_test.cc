#include "server/rpc_status.h"

#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/error_details.h"

namespace image_variations {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(RpcStatus, OkHasNoDetails) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpcStatus(absl::OkStatus()).error_details(), "");
}

TEST(RpcStatus, ErrorCarriesCodeMessageReasonAndMetadata) {
  const grpc::Status status = ToGrpcStatus(MakeError(absl::StatusCode::kResourceExhausted,
                                                     reason::kQueueFull, "full", {{"limit", "8"}}));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "full");
  const ErrorDetails details = DetailsOf(status);
  EXPECT_EQ(details.reason, "QUEUE_FULL");
  EXPECT_EQ(details.domain, "imagevariations");
  EXPECT_THAT(details.metadata, ElementsAre(Pair("limit", "8")));
  EXPECT_EQ(details.retry_delay, std::nullopt);
}

TEST(RpcStatus, RetryDelayGoesOverTheWireToTheNanosecond) {
  const absl::Duration delay = absl::Seconds(2) + absl::Nanoseconds(7);
  const absl::Status status =
      WithRetryDelay(MakeError(absl::StatusCode::kUnavailable, reason::kDraining, ""), delay);
  EXPECT_EQ(DetailsOf(ToGrpcStatus(status)).retry_delay, delay);
  EXPECT_EQ(RetryDelayOf(status), delay);
}

TEST(RpcStatus, DrainingErrorCanBeRetriedElsewhere) {
  const grpc::Status status = ToGrpcStatus(MakeDrainingError("stopping"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(status.error_message(), "stopping");
  EXPECT_EQ(DetailsOf(status).reason, "DRAINING");
  EXPECT_EQ(DetailsOf(status).retry_delay, absl::Seconds(1));
}

TEST(RpcStatus, FieldErrorNamesEveryFieldAndTellsTheFirst) {
  const grpc::Status status = ToGrpcStatus(MakeFieldError(
      reason::kInvalidField,
      {{"seed", "-1", "0 to 9", "must not be negative"}, {"width", "7", "8 to 16", "too narrow"}}));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("seed: must not be negative (and 1 more"));
  const ErrorDetails details = DetailsOf(status);
  EXPECT_THAT(details.fields, ElementsAre("seed", "width"));
  EXPECT_THAT(details.metadata,
              ElementsAre(Pair("field", "seed"), Pair("limit", "0 to 9"), Pair("value", "-1")));
}

TEST(RpcStatus, ErrorOfLowerCodeGetsReasonInternal) {
  const ErrorDetails details = DetailsOf(ToGrpcStatus(absl::InternalError("oops")));
  EXPECT_EQ(details.reason, "INTERNAL");
}

TEST(RpcStatus, NotesOfLowerCodeStayInTheProcess) {
  absl::Status status = absl::InternalError("oops");
  status.SetPayload("imagevariations/note", absl::Cord("secret"));
  EXPECT_THAT(ToGrpcStatus(status).error_details(), ::testing::Not(HasSubstr("secret")));
}

TEST(RpcStatus, EveryReasonIsInTheManualsTableOfErrors) {
  const auto read = [](const char* path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string page = read("docs/operating.md");
  const size_t begin = page.find("\n## Errors\n");
  ASSERT_NE(begin, std::string::npos);
  const std::string table = page.substr(begin, page.find("\n## ", begin + 1) - begin);
  const std::string header = read("server/rpc_status.h");
  const std::regex constant("constexpr char k[A-Za-z]+\\[\\] = \"([A-Z_]+)\";");
  int reasons = 0;
  for (std::sregex_iterator it(header.begin(), header.end(), constant), end; it != end; ++it) {
    ++reasons;
    EXPECT_THAT(table, HasSubstr("`" + (*it)[1].str() + "`"));
  }
  EXPECT_GE(reasons, 19);
}

}  // namespace
}  // namespace image_variations
