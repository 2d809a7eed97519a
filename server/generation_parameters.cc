#include "server/generation_parameters.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace image_variations {
namespace {

constexpr size_t kHashDigits = 10;

// AUTOMATIC1111's names of samplers; others keep ours.
absl::string_view SamplerLabel(absl::string_view name) {
  constexpr std::pair<absl::string_view, absl::string_view> kLabels[] = {
      {"pndm", "PLMS"},
      {"ddim", "DDIM"},
      {"ddpm", "DDPM"},
      {"euler", "Euler"},
      {"euler-ancestral", "Euler a"},
      {"heun", "Heun"},
      {"lms", "LMS"},
      {"dpmpp-2m", "DPM++ 2M"},
      {"dpmpp-2m-karras", "DPM++ 2M Karras"},
      {"dpmpp-2m-sde", "DPM++ 2M SDE"},
      {"dpmpp-2m-sde-karras", "DPM++ 2M SDE Karras"},
      {"unipc", "UniPC"},
      {"deis", "DEIS"},
      {"lcm", "LCM"},
  };
  for (const auto& [ours, theirs] : kLabels) {
    if (name == ours) return theirs;
  }
  return name;
}

}  // namespace

std::string GenerationParametersText(const ValidRequest& request, uint64_t sample_seed,
                                     const ModelInfo& model) {
  const auto unet = model.component_sha256.find("unet");
  const std::string hash =
      unet == model.component_sha256.end()
          ? ""
          : absl::StrCat("Model hash: ", unet->second.substr(0, kHashDigits), ", ");
  return absl::StrFormat(
      "Steps: %d, Sampler: %s, CFG scale: %g, Seed: %d, Size: %dx%d, %sModel: %s, "
      "Version: image-variations %s",
      request.sampler.num_inference_steps, SamplerLabel(request.sampler.name),
      request.guidance_scale, sample_seed, request.width, request.height, hash, model.model_id,
      IV_VERSION);
}

}  // namespace image_variations
