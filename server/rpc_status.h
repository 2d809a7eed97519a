// Errors as the API tells them: a canonical code plus google.rpc details (AIP-193). Inside the
// server an error is an absl::Status that carries its details as payloads; this file makes such
// statuses and is the only one that turns them into gRPC's.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace image_variations {

// ErrorInfo.domain of every error.
inline constexpr char kErrorDomain[] = "imagevariations";

// ErrorInfo.reason: why, for programs. Clients depend on them.
namespace reason {
inline constexpr char kInvalidField[] = "INVALID_FIELD";
inline constexpr char kImageUndecodable[] = "IMAGE_UNDECODABLE";
inline constexpr char kImageTooLarge[] = "IMAGE_TOO_LARGE";
inline constexpr char kImageUnsupported[] = "IMAGE_UNSUPPORTED";
inline constexpr char kRequestIdReused[] = "REQUEST_ID_REUSED";
inline constexpr char kReplyTooLarge[] = "REPLY_TOO_LARGE";
inline constexpr char kQueueFull[] = "QUEUE_FULL";
inline constexpr char kDeadlineUnreachable[] = "DEADLINE_UNREACHABLE";
inline constexpr char kCallerLimit[] = "CALLER_LIMIT";
inline constexpr char kStarting[] = "STARTING";
inline constexpr char kDraining[] = "DRAINING";
inline constexpr char kDeviceFailed[] = "DEVICE_FAILED";
inline constexpr char kDeadlinePassed[] = "DEADLINE_PASSED";
inline constexpr char kCancelled[] = "CANCELLED";
inline constexpr char kNonFiniteOutput[] = "NON_FINITE_OUTPUT";
inline constexpr char kTokenMissing[] = "TOKEN_MISSING";
inline constexpr char kTokenInvalid[] = "TOKEN_INVALID";
inline constexpr char kNotAllowed[] = "NOT_ALLOWED";
inline constexpr char kInternal[] = "INTERNAL";
}  // namespace reason

using ErrorMetadata = std::map<std::string, std::string>;

// A status with ErrorInfo{reason, kErrorDomain, metadata}. Every number in the message is in the
// metadata too.
absl::Status MakeError(absl::StatusCode, absl::string_view reason, absl::string_view message,
                       const ErrorMetadata& metadata = {});

// The same error with RetryInfo: the same call may succeed after `delay`.
absl::Status WithRetryDelay(absl::Status, absl::Duration delay);

// The same error with QuotaFailure: whose quota, and what of it is used up.
absl::Status WithQuotaFailure(absl::Status, absl::string_view subject,
                              absl::string_view description);

// UNAVAILABLE with RetryInfo: this server takes no more work, another one may.
absl::Status MakeDrainingError(absl::string_view message);

// DEADLINE_EXCEEDED: the caller's time is over, with how far the work had come.
absl::Status MakeDeadlinePassedError(int steps_done, int steps_total);

// One field that cannot be served. `field` is its path in the request ("output.mime_type").
struct FieldViolation {
  std::string field;
  std::string value;
  std::string limit;    // what is accepted
  std::string message;  // for people: what, limit, actual value
};

// INVALID_ARGUMENT with BadRequest naming all violations; message and ErrorInfo metadata are the
// first one's. Requires at least one.
absl::Status MakeFieldError(absl::string_view reason, const std::vector<FieldViolation>&);

// ErrorInfo.reason, RetryInfo.retry_delay of a status; empty, nullopt when it has none.
std::string ReasonOf(const absl::Status&);
std::optional<absl::Duration> RetryDelayOf(const absl::Status&);

// With the details. A status without ErrorInfo (of code below server/) gets reason INTERNAL.
google::rpc::Status ToRpcStatus(const absl::Status&);

// The one mapping to the wire: code, message, and ToRpcStatus in grpc-status-details-bin.
grpc::Status ToGrpcStatus(const absl::Status&);

}  // namespace image_variations
