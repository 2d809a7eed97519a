// The readers of a checkpoint's JSON, the first byte says which: whatever a file holds, it is
// refused with a reason, or the networks can be built and a plan made from what was read.
#include <cstdint>

#include "absl/strings/string_view.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/hub_cache.h"
#include "pipeline/checkpoint/manifest.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/checkpoint/weight_files.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {
namespace {

template <typename T>
bool IsRead(const absl::StatusOr<T>& parsed) {
  IV_CHECK(parsed.ok() || !parsed.status().message().empty());
  return parsed.ok();
}

void CheckUnet(absl::string_view text) {
  const auto config = ParseUnetConfig(text);
  if (!IsRead(config)) return;
  const size_t blocks = config->block_out_channels.size();
  IV_CHECK(blocks > 0 && config->attention_heads.size() == blocks);
  IV_CHECK(config->down_block_has_attention.size() == blocks);
  IV_CHECK(config->up_block_has_attention.size() == blocks);
  for (size_t i = 0; i < blocks; ++i) {
    IV_CHECK(config->block_out_channels[i] % config->attention_heads[i] == 0);
    IV_CHECK(config->block_out_channels[i] % config->norm_num_groups == 0);
  }
  IV_CHECK(config->block_out_channels[0] % 2 == 0);
  IV_CHECK(config->sample_size > 0 && config->layers_per_block > 0 && config->norm_eps > 0);
}

void CheckVae(absl::string_view text) {
  const auto config = ParseVaeConfig(text);
  if (!IsRead(config)) return;
  IV_CHECK(config->factor() >= 1 && config->factor() <= 128);
  IV_CHECK(config->scaling_factor > 0);
}

void CheckTower(const absl::StatusOr<ClipVisionConfig>& config) {
  if (!IsRead(config)) return;
  IV_CHECK(config->hidden_size % config->num_attention_heads == 0);
  IV_CHECK(config->image_size >= config->patch_size);
}

void CheckPreprocessor(absl::string_view text) {
  const auto config = ParsePreprocessorConfig(text);
  if (!IsRead(config)) return;
  IV_CHECK(config->shortest_edge > 0 && config->crop_width > 0 && config->crop_height > 0);
  for (const float deviation : config->image_std) IV_CHECK(deviation > 0);
}

void CheckSampler(absl::string_view text) {
  const auto config = ParseSamplerConfig(text);
  if (!IsRead(config)) return;
  const auto plan =
      MakeSamplerPlan(*config, {.name = config->default_sampler, .num_inference_steps = 3});
  if (IsRead(plan)) IV_CHECK(!plan->steps.empty());
}

void CheckReference(absl::string_view text) {
  const auto reference = HubReference::Parse(text);
  if (!reference) return;
  IV_CHECK(reference->repository.find("..") == std::string::npos);
  IV_CHECK(reference->revision.find("..") == std::string::npos && reference->revision[0] != '/');
}

}  // namespace
}  // namespace image_variations

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace image_variations;  // NOLINT(google-build-using-namespace)
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  switch (bytes[0]) {
    case 'u':
      CheckUnet(text);
      break;
    case 'v':
      CheckVae(text);
      break;
    case 'c':
      CheckTower(ParseImageEncoderConfig(text));
      break;
    case 's':
      CheckTower(ParseSafetyCheckerConfig(text));
      break;
    case 'p':
      CheckPreprocessor(text);
      break;
    case 'd':
      CheckSampler(text);
      break;
    case 'm':
      IsRead(Manifest::Parse("manifest.json", text));
      break;
    case 'w':
      IsRead(ParseWeightMap(text));
      break;
    case 'h':
      CheckReference(text);
      break;
    default:
      break;
  }
  return 0;
}
