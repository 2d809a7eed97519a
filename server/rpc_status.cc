#include "server/rpc_status.h"

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr char kTypeUrlPrefix[] = "type.googleapis.com/";
constexpr absl::Duration kDrainingRetryDelay = absl::Seconds(1);  // another replica takes it

// google.protobuf.Any's type URL, also used as the payload's key.
template <typename Detail>
std::string TypeUrl() {
  return absl::StrCat(kTypeUrlPrefix, Detail::descriptor()->full_name());
}

template <typename Detail>
void SetDetail(const Detail& detail, absl::Status* status) {
  status->SetPayload(TypeUrl<Detail>(), absl::Cord(detail.SerializeAsString()));
}

template <typename Detail>
std::optional<Detail> GetDetail(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(TypeUrl<Detail>());
  Detail detail;
  if (!payload || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

void SetErrorInfo(absl::string_view reason, const ErrorMetadata& metadata, absl::Status* status) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain(kErrorDomain);
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  SetDetail(info, status);
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, absl::string_view reason, absl::string_view message,
                       const ErrorMetadata& metadata) {
  absl::Status status(code, message);
  SetErrorInfo(reason, metadata, &status);
  return status;
}

absl::Status WithRetryDelay(absl::Status status, absl::Duration delay) {
  google::rpc::RetryInfo retry;
  const int64_t seconds = absl::IDivDuration(delay, absl::Seconds(1), &delay);
  retry.mutable_retry_delay()->set_seconds(seconds);
  retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(delay)));
  SetDetail(retry, &status);
  return status;
}

absl::Status WithQuotaFailure(absl::Status status, absl::string_view subject,
                              absl::string_view description) {
  google::rpc::QuotaFailure failure;
  auto* violation = failure.add_violations();
  violation->set_subject(std::string(subject));
  violation->set_description(std::string(description));
  SetDetail(failure, &status);
  return status;
}

absl::Status MakeDrainingError(absl::string_view message) {
  return WithRetryDelay(MakeError(absl::StatusCode::kUnavailable, reason::kDraining, message),
                        kDrainingRetryDelay);
}

absl::Status MakeDeadlinePassedError(int steps_done, int steps_total) {
  return MakeError(
      absl::StatusCode::kDeadlineExceeded, reason::kDeadlinePassed,
      absl::StrCat("the deadline passed after ", steps_done, " of ", steps_total,
                   " denoising steps"),
      {{"steps_done", absl::StrCat(steps_done)}, {"steps_total", absl::StrCat(steps_total)}});
}

absl::Status MakeFieldError(absl::string_view reason,
                            const std::vector<FieldViolation>& violations) {
  IV_CHECK(!violations.empty());
  const FieldViolation& first = violations.front();
  std::string message = absl::StrCat(first.field, ": ", first.message);
  if (violations.size() > 1) {
    absl::StrAppend(&message, " (and ", violations.size() - 1, " more, see details)");
  }
  absl::Status status =
      MakeError(absl::StatusCode::kInvalidArgument, reason, message,
                {{"field", first.field}, {"value", first.value}, {"limit", first.limit}});
  google::rpc::BadRequest bad_request;
  for (const FieldViolation& violation : violations) {
    auto* field = bad_request.add_field_violations();
    field->set_field(violation.field);
    field->set_description(violation.message);
  }
  SetDetail(bad_request, &status);
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  const auto info = GetDetail<google::rpc::ErrorInfo>(status);
  return info ? info->reason() : "";
}

std::optional<absl::Duration> RetryDelayOf(const absl::Status& status) {
  const auto retry = GetDetail<google::rpc::RetryInfo>(status);
  if (!retry) return std::nullopt;
  return absl::Seconds(retry->retry_delay().seconds()) +
         absl::Nanoseconds(retry->retry_delay().nanos());
}

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  absl::Status described = status;
  if (!status.ok() && ReasonOf(status).empty()) SetErrorInfo(reason::kInternal, {}, &described);
  google::rpc::Status rpc_status;
  rpc_status.set_code(static_cast<int>(described.code()));
  rpc_status.set_message(std::string(described.message()));
  described.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    if (!absl::StartsWith(type_url, kTypeUrlPrefix)) return;  // a note of code below server/
    auto* detail = rpc_status.add_details();
    detail->set_type_url(std::string(type_url));
    detail->set_value(std::string(payload));
  });
  return rpc_status;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      ToRpcStatus(status).SerializeAsString());
}

}  // namespace image_variations
