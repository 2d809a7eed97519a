#include "client/streamed_reply.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/conversion.h"

namespace image_variations::client {

void StreamedReply::Take(pb::StreamVariationsResponse&& event, const VaryEvents& events) {
  switch (event.event_case()) {
    case pb::StreamVariationsResponse::kAdmitted:
      if (events.on_admitted) events.on_admitted(FromProto(event.admitted()));
      break;
    case pb::StreamVariationsResponse::kProgress:
      if (events.on_progress) events.on_progress(FromProto(event.progress()));
      break;
    case pb::StreamVariationsResponse::kPreview:
      if (events.on_preview) events.on_preview(FromProto(std::move(*event.mutable_preview())));
      break;
    case pb::StreamVariationsResponse::kVariation:
      result_.variations.push_back(FromProto(std::move(*event.mutable_variation())));
      if (events.on_variation) events.on_variation(result_.variations.back());
      break;
    case pb::StreamVariationsResponse::kCompleted:
      result_.parameters = FromProto(event.completed().parameters());
      result_.metrics = FromProto(event.completed().metrics());
      completed_ = true;
      break;
    default:
      break;  // a newer server's event
  }
}

absl::StatusOr<VariationResult> StreamedReply::Finish(int sample_count) && {
  if (!completed_) {
    return absl::InternalError("the server ended its reply without saying that it is complete");
  }
  std::vector<Variation>& variations = result_.variations;
  std::sort(variations.begin(), variations.end(),
            [](const Variation& a, const Variation& b) { return a.index < b.index; });
  for (int i = 0; i < sample_count; ++i) {
    const size_t position = static_cast<size_t>(i);
    if (position >= variations.size() || variations[position].index != i) {
      return absl::InternalError(absl::StrCat("the server's reply has no variation ", i));
    }
  }
  return std::move(result_);
}

}  // namespace image_variations::client
