// The decoder half of AutoencoderKL: latents to pixels. Group and layer norms have eps 1e-6 here.
#pragma once

#include <optional>
#include <vector>

#include "ATen/core/Tensor.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/model/layers.h"
#include "pipeline/model/upsampler.h"
#include "pipeline/model/weight_loader.h"

namespace image_variations {

// One head over all channels, with its residual.
struct VaeAttention {
  GroupNorm group_norm;
  SelfAttention attention;

  // Reads the names of diffusers before 0.18 (query, key, value, proj_attn) too.
  static VaeAttention Load(const WeightScope&, int64_t channels, int64_t groups);
  at::Tensor Forward(const at::Tensor& x) const;
};

struct VaeUpBlock {
  std::vector<ResnetBlock> resnets;
  std::optional<Upsampler> upsampler;  // none in the last block
};

struct VaeDecoder {
  std::optional<Conv2d> post_quant_conv;
  Conv2d conv_in;
  std::vector<ResnetBlock> mid_resnets;  // two
  std::optional<VaeAttention> mid_attention;
  std::vector<VaeUpBlock> up_blocks;
  GroupNorm conv_norm_out;
  Conv2d conv_out;
  double scaling_factor = 0.18215;

  // Takes what a decoder needs; the caller ignores encoder.* and quant_conv.*. `latent_side`: of
  // the latents that it is for.
  static VaeDecoder Load(const WeightScope&, const VaeConfig&, int64_t latent_side);
  // Latents as the sampler left them to pixels of about -1 to 1, not clamped.
  at::Tensor Forward(const at::Tensor& latents) const;
};

}  // namespace image_variations
