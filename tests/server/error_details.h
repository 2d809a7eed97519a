// google.rpc details of an error, for tests to look at.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace image_variations {

struct ErrorDetails {
  std::string reason;
  std::string domain;
  std::map<std::string, std::string> metadata;
  std::vector<std::string> fields;  // of BadRequest
  std::optional<absl::Duration> retry_delay;
};

inline ErrorDetails DetailsOf(const google::rpc::Status& status) {
  ErrorDetails details;
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad_request;
  google::rpc::RetryInfo retry;
  for (const auto& any : status.details()) {
    if (any.UnpackTo(&info)) {
      details.reason = info.reason();
      details.domain = info.domain();
      details.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&bad_request)) {
      for (const auto& field : bad_request.field_violations()) {
        details.fields.push_back(field.field());
      }
    } else if (any.UnpackTo(&retry)) {
      details.retry_delay = absl::Seconds(retry.retry_delay().seconds()) +
                            absl::Nanoseconds(retry.retry_delay().nanos());
    }
  }
  return details;
}

inline ErrorDetails DetailsOf(const grpc::Status& status) {
  google::rpc::Status rpc_status;
  rpc_status.ParseFromString(status.error_details());
  return DetailsOf(rpc_status);
}

}  // namespace image_variations
