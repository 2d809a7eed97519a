// Plain values <-> protobuf messages; internal to the client library.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/messages.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/status.h"
#include "imagevariations/v1/image_variations.pb.h"

namespace image_variations::client {

namespace pb = imagevariations::v1;

// Moves the image out of `request`.
pb::GenerateVariationsRequest ToProto(VariationRequest&& request);

Admitted FromProto(const pb::Admitted&);
Progress FromProto(const pb::Progress&);
Preview FromProto(pb::Preview&&);
Variation FromProto(pb::Variation&&);
EffectiveParameters FromProto(const pb::EffectiveParameters&);
RequestMetrics FromProto(const pb::RequestMetrics&);
ModelDescription FromProto(const pb::GetModelResponse&);
ServerStatus FromProto(const pb::GetServerStatusResponse&);

void SetDeadline(absl::Time deadline, grpc::ClientContext&);

// The details travel as the status's payload of type google.rpc.Status.
absl::Status FromGrpc(const grpc::Status&);

}  // namespace image_variations::client
