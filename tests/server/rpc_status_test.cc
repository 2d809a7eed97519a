#include "server/rpc_status.h"

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
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

// What stands in a file after `begin` and before `end`; "" when it is not there.
std::string PartOf(const char* path, const std::string& begin, const std::string& end) {
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const size_t found = text.find(begin);
  if (found == std::string::npos) return "";
  const size_t start = found + begin.size();
  return text.substr(start, text.find(end, start) - start);
}

TEST(RpcStatus, EveryReasonIsInTheManualsTableOfErrors) {
  const std::string table = PartOf("docs/operating.md", "\n## Errors\n", "\n## ");
  const std::string reasons = PartOf("server/rpc_status.h", "\nnamespace reason {\n", "\n}");
  const std::vector<std::string> quoted = absl::StrSplit(reasons, '"');  // every second
  EXPECT_GE(quoted.size() / 2, 19);
  for (size_t i = 1; i < quoted.size(); i += 2) {
    EXPECT_THAT(table, HasSubstr("`" + quoted[i] + "`"));
  }
}

}  // namespace
}  // namespace image_variations
