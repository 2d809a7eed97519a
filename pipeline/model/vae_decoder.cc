#include "pipeline/model/vae_decoder.h"

#include <utility>

#include "ATen/TensorOperators.h"

namespace image_variations {
namespace {

constexpr double kEps = 1e-6;

// `side`: of the pictures that come in, as those of conv2d.
VaeUpBlock LoadUpBlock(const WeightScope& scope, int64_t in, int64_t out, int64_t side,
                       bool is_last, const VaeConfig& config) {
  VaeUpBlock block;
  for (size_t i = 0; i <= static_cast<size_t>(config.layers_per_block); ++i) {
    block.resnets.push_back(ResnetBlock::Load(scope["resnets"][i], i == 0 ? in : out, out,
                                              config.norm_num_groups, kEps, side));
  }
  if (!is_last) {
    block.upsampler = Upsampler::Load(scope["upsamplers"][0]["conv"], out, side);
  }
  return block;
}

}  // namespace

VaeAttention VaeAttention::Load(const WeightScope& scope, int64_t channels, int64_t groups) {
  const bool is_old = scope.Has("proj_attn.weight");
  return {.group_norm = GroupNorm::Load(scope["group_norm"], channels, groups, kEps),
          .attention = SelfAttention::Load(
              {scope[is_old ? "query" : "to_q"], scope[is_old ? "key" : "to_k"],
               scope[is_old ? "value" : "to_v"], scope[is_old ? "proj_attn" : "to_out.0"]},
              channels, /*heads=*/1, /*qkv_has_bias=*/true)};
}

at::Tensor VaeAttention::Forward(const at::Tensor& x) const {
  const at::Tensor tokens = ToTokens(group_norm.Forward(x));
  return FromTokens(attention.ForwardAdd(tokens, ToTokens(x)), x);
}

VaeDecoder VaeDecoder::Load(const WeightScope& scope, const VaeConfig& config,
                            int64_t latent_side) {
  const WeightScope decoder = scope["decoder"];
  const WeightScope mid = decoder["mid_block"];
  const int64_t deepest = config.block_out_channels.back();
  const int64_t groups = config.norm_num_groups;
  int64_t side = latent_side;
  VaeDecoder vae;
  vae.scaling_factor = config.scaling_factor;
  if (config.use_post_quant_conv) {
    vae.post_quant_conv = Conv2d::Load(scope["post_quant_conv"], config.latent_channels,
                                       config.latent_channels, 1, side);
  }
  vae.conv_in = Conv2d::Load(decoder["conv_in"], config.latent_channels, deepest, 3, side);
  for (size_t i = 0; i < 2; ++i) {
    vae.mid_resnets.push_back(
        ResnetBlock::Load(mid["resnets"][i], deepest, deepest, groups, kEps, side));
  }
  if (config.mid_block_add_attention) {
    vae.mid_attention = VaeAttention::Load(mid["attentions"][0], deepest, groups);
  }
  int64_t in = deepest;
  const size_t blocks = config.block_out_channels.size();
  for (size_t i = 0; i < blocks; ++i) {
    const int64_t out = config.block_out_channels[blocks - 1 - i];
    vae.up_blocks.push_back(
        LoadUpBlock(decoder["up_blocks"][i], in, out, side, i + 1 == blocks, config));
    in = out;
    if (i + 1 < blocks) side *= 2;
  }
  vae.conv_norm_out = GroupNorm::Load(decoder["conv_norm_out"], in, groups, kEps);
  vae.conv_out = Conv2d::Load(decoder["conv_out"], in, config.out_channels, 3, side);
  return vae;
}

at::Tensor VaeDecoder::Forward(const at::Tensor& latents) const {
  at::Tensor h = ToChannelsLast((latents / scaling_factor).to(conv_in.bias.options()));
  if (post_quant_conv) h = post_quant_conv->Forward(h);
  h = mid_resnets[0].Forward(conv_in.Forward(h));
  if (mid_attention) h = mid_attention->Forward(h);
  h = mid_resnets[1].Forward(h);
  for (const VaeUpBlock& block : up_blocks) {
    for (const ResnetBlock& resnet : block.resnets) h = resnet.ForwardOver(std::move(h));
    if (block.upsampler) h = block.upsampler->Forward(h, 2 * h.size(2), 2 * h.size(3));
  }
  return conv_out.Forward(conv_norm_out.ForwardSilu(h));
}

}  // namespace image_variations
