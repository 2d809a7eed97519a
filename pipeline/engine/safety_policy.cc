#include "pipeline/engine/safety_policy.h"

#include <cmath>
#include <utility>

#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

// numpy.round(score, 3) > 0, as diffusers' safety_checker.py asks; not finite counts as a hit.
bool IsHit(float score) { return !std::isfinite(score) || std::nearbyint(score * 1000.0f) > 0; }

bool IsUnsafe(const SafetyScores& scores) {
  if (scores.concepts.empty()) return true;
  float adjustment = 0;
  for (const float score : scores.special_care) {
    if (!std::isfinite(score)) return true;
    if (IsHit(score + adjustment)) adjustment = 0.01f;
  }
  for (const float score : scores.concepts) {
    if (IsHit(score + adjustment)) return true;
  }
  return false;
}

}  // namespace

const Image& CheckedImage::image() const {
  IV_CHECK(image_.has_value());
  return *image_;
}

CheckedImage SafetyPolicy::Judge(Image image, const SafetyScores& scores) const {
  if (mode_ == SafetyMode::kRequired && IsUnsafe(scores)) return CheckedImage(std::nullopt);
  return CheckedImage(std::move(image));
}

absl::StatusOr<std::string> EncodeChecked(const CheckedImage& image, const EncodeOptions& options) {
  return EncodeImage(image.image(), options);
}

}  // namespace image_variations
