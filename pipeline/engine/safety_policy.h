// The verdict: scores in, a picture that may be shown or a blocked one out. Fails closed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/image/codec.h"
#include "pipeline/image/image.h"

namespace image_variations {

// One picture's cosine similarity to each concept minus that concept's threshold
// (concept_embeds_weights), not yet adjusted or rounded: diffusers' safety_checker.py up to the
// subtraction.
struct SafetyScores {
  std::vector<float> special_care;
  std::vector<float> concepts;
};

// A picture that was judged. Only SafetyPolicy makes one, and EncodeChecked takes nothing else:
// what was not judged cannot be encoded.
class CheckedImage {
 public:
  bool blocked() const { return !image_.has_value(); }
  const Image& image() const;  // requires !blocked()

 private:
  friend class SafetyPolicy;
  explicit CheckedImage(std::optional<Image> image) : image_(std::move(image)) {}

  std::optional<Image> image_;
};

enum class SafetyMode { kRequired, kOff };

// Immutable; thread-safe.
class SafetyPolicy {
 public:
  explicit SafetyPolicy(SafetyMode mode) : mode_(mode) {}

  // kRequired: blocks as diffusers does (scores rounded to 3 decimals, a special-care hit adds 0.01
  // to every later score), and, unlike diffusers, also when a score is not finite or there are no
  // concepts at all. kOff: never blocks.
  CheckedImage Judge(Image, const SafetyScores&) const;

  SafetyMode mode() const { return mode_; }

 private:
  SafetyMode mode_;
};

// The only encoder that server/ may call. Requires !blocked().
absl::StatusOr<std::string> EncodeChecked(const CheckedImage&, const EncodeOptions&);

}  // namespace image_variations
