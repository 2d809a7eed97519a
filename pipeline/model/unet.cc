#include "pipeline/model/unet.h"

#include <cmath>

#include "ATen/TensorOperators.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/cos.h"
#include "ATen/ops/exp.h"
#include "ATen/ops/silu.h"
#include "ATen/ops/sin.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/model/device.h"

namespace image_variations {
namespace {

// Fixed in diffusers' Transformer2DModel, whatever norm_eps is.
constexpr double kTransformerGroupNormEps = 1e-6;

// diffusers' get_timestep_embedding, in its order of float32 operations. (1, 1, channels).
at::Tensor TimestepEmbedding(float timestep, int channels, const UnetConfig& config) {
  const int half = channels / 2;
  const at::Tensor exponent = at::arange(half, at::kFloat) * -std::log(10000.0);
  const at::Tensor angles = at::exp(exponent / (half - config.freq_shift)) * timestep;
  const at::Tensor sine = at::sin(angles);
  const at::Tensor cosine = at::cos(angles);
  const auto parts = config.flip_sin_to_cos ? std::vector{cosine, sine} : std::vector{sine, cosine};
  return at::cat(parts).view({1, 1, channels});
}

// Builds the blocks from one component's names.
class UnetLoader {
 public:
  UnetLoader(const WeightScope& scope, const UnetConfig& config)
      : scope_(scope), config_(config), time_channels_(4 * config.block_out_channels[0]) {}

  UnetDownBlock Down(size_t index) const {
    const WeightScope scope = scope_["down_blocks"][index];
    const bool is_last = index + 1 == config_.block_out_channels.size();
    const int64_t out = Channels(index);
    int64_t in = index == 0 ? out : Channels(index - 1);
    UnetDownBlock block;
    for (size_t i = 0; i < Layers(); ++i) {
      block.resnets.push_back(Resnet(scope["resnets"][i], index, in, out));
      if (config_.down_block_has_attention[index]) {
        block.attentions.push_back(Attention(scope["attentions"][i], index));
      }
      in = out;
    }
    if (!is_last) {
      block.downsampler =
          Conv2d::Load(scope["downsamplers"][0]["conv"], out, out, 3, Side(index), /*stride=*/2);
    }
    return block;
  }

  UnetMidBlock Mid() const {
    const WeightScope scope = scope_["mid_block"];
    const size_t deepest = config_.block_out_channels.size() - 1;
    const int64_t channels = Channels(deepest);
    UnetMidBlock block;
    block.resnets.push_back(Resnet(scope["resnets"][0], deepest, channels, channels));
    block.attentions.push_back(Attention(scope["attentions"][0], deepest));
    block.resnets.push_back(Resnet(scope["resnets"][1], deepest, channels, channels));
    return block;
  }

  // Up block `index` mirrors down block `level`, and its last skip comes from the level above.
  UnetUpBlock Up(size_t index) const {
    const WeightScope scope = scope_["up_blocks"][index];
    const size_t level = config_.block_out_channels.size() - 1 - index;
    const int64_t out = Channels(level);
    const int64_t last_skip = level == 0 ? out : Channels(level - 1);
    int64_t in = index == 0 ? out : Channels(level + 1);
    UnetUpBlock block;
    for (size_t i = 0; i <= Layers(); ++i) {
      const int64_t skip = i == Layers() ? last_skip : out;
      block.resnets.push_back(Resnet(scope["resnets"][i], level, in + skip, out, skip));
      if (config_.up_block_has_attention[index]) {
        block.attentions.push_back(Attention(scope["attentions"][i], level));
      }
      in = out;
    }
    if (level > 0) {
      block.upsampler = Upsampler::Load(scope["upsamplers"][0]["conv"], out, Side(level));
    }
    return block;
  }

 private:
  int64_t Channels(size_t level) const { return config_.block_out_channels[level]; }
  size_t Layers() const { return static_cast<size_t>(config_.layers_per_block); }

  // Height and width of what the networks were trained on.
  int64_t Side(size_t level) const { return config_.sample_size >> level; }

  UnetResnet Resnet(const WeightScope& scope, size_t level, int64_t in, int64_t out,
                    int64_t skip = 0) const {
    return {.block = ResnetBlock::Load(scope, in, out, config_.norm_num_groups, config_.norm_eps,
                                       Side(level), skip),
            .time_emb_proj = Linear::Load(scope["time_emb_proj"], time_channels_, out)};
  }

  SpatialTransformer Attention(const WeightScope& scope, size_t level) const {
    return SpatialTransformer::Load(scope, Channels(level), config_.attention_heads[level],
                                    config_);
  }

  const WeightScope scope_;
  const UnetConfig& config_;
  const int64_t time_channels_;
};

// Calls visit(block) for every block, in the order in which Forward runs them.
template <typename UnetType, typename Visit>
void ForEachBlock(UnetType& unet, Visit visit) {
  for (auto& block : unet.down_blocks) visit(block);
  visit(unet.mid_block);
  for (auto& block : unet.up_blocks) visit(block);
}

void LayOutColumns(Unet* unet) {
  std::vector<at::Tensor> biases;
  ForEachBlock(*unet, [&](auto& block) {
    for (UnetResnet& resnet : block.resnets) {
      resnet.time_offset = unet->time_width;
      unet->time_width += resnet.time_emb_proj.weight.size(0);
    }
    for (SpatialTransformer& attention : block.attentions) {
      attention.attn2.context_offset = unet->context_width;
      unet->context_width += attention.attn2.to_out.weight.size(0);
      biases.push_back(attention.attn2.to_out.bias);
    }
  });
  unet->unconditional_context = at::cat(biases).unsqueeze(0);
}

void RunDownBlock(const UnetDownBlock& block, UnetActivations* state) {
  for (size_t i = 0; i < block.resnets.size(); ++i) {
    state->h = block.resnets[i].Forward(*state);
    if (!block.attentions.empty()) state->h = block.attentions[i].Forward(*state);
    state->skips.push_back(state->h);
  }
  if (block.downsampler) {
    state->h = block.downsampler->Forward(state->h);
    state->skips.push_back(state->h);
  }
}

void RunMidBlock(const UnetMidBlock& block, UnetActivations* state) {
  state->h = block.resnets[0].Forward(*state);
  state->h = block.attentions[0].Forward(*state);
  state->h = block.resnets[1].Forward(*state);
}

void RunUpBlock(const UnetUpBlock& block, UnetActivations* state) {
  for (size_t i = 0; i < block.resnets.size(); ++i) {
    const at::Tensor skip = state->MatchRows(state->skips.back());
    state->skips.pop_back();
    state->h = block.resnets[i].Forward(*state, skip);
    if (!block.attentions.empty()) state->h = block.attentions[i].Forward(*state);
  }
  // Twice the size, or one less where the way down rounded up.
  if (block.upsampler) {
    const at::Tensor& next_skip = state->skips.back();
    state->h = block.upsampler->Forward(state->h, next_skip.size(2), next_skip.size(3));
  }
}

}  // namespace

at::Tensor UnetActivations::MatchRows(const at::Tensor& tensor) const {
  if (tensor.size(0) == h.size(0)) return tensor;
  const at::Tensor rows = tensor.index_select(0, sample_of_row);
  return tensor.dim() == 4 ? ToChannelsLast(rows) : rows;
}

at::Tensor UnetResnet::Forward(const UnetActivations& state, const at::Tensor& skip) const {
  const at::Tensor bias = state.time_biases.narrow(1, time_offset, time_emb_proj.weight.size(0));
  return block.Forward(state.h, skip, state.MatchRows(bias));
}

SpatialTransformer SpatialTransformer::Load(const WeightScope& scope, int64_t channels,
                                            int64_t heads, const UnetConfig& config) {
  const WeightScope block = scope["transformer_blocks"][0];
  const WeightScope attn1 = block["attn1"];
  const WeightScope attn2 = block["attn2"];
  const int64_t context = config.cross_attention_dim;
  attn2.Expect("to_q.weight", {channels, channels});
  attn2.Expect("to_k.weight", {channels, context});
  block.Expect("norm2.weight", {channels});
  block.Expect("norm2.bias", {channels});
  const WeightScope proj = block["ff"]["net"][0]["proj"];
  const int64_t wide = 4 * channels;
  const at::Tensor proj_weight = proj.Take("weight", {2 * wide, channels});
  const at::Tensor proj_bias = proj.Take("bias", {2 * wide});
  const auto half = [&](int64_t i) {
    return Linear{.weight = PackLinearWeight(proj_weight.narrow(0, i * wide, wide)),
                  .bias = proj_bias.narrow(0, i * wide, wide),
                  .rows = scope.placement().rows};
  };
  return {
      .norm = GroupNorm::Load(scope["norm"], channels, config.norm_num_groups,
                              kTransformerGroupNormEps),
      .proj_in = Linear::Load(scope["proj_in"], channels, channels),
      .norm1 = LayerNorm::Load(block["norm1"], channels),
      .attn1 = SelfAttention::Load(
          {attn1["to_q"], attn1["to_k"], attn1["to_v"], attn1["to_out"][0]}, channels, heads,
          /*qkv_has_bias=*/false),
      .attn2 = {.to_v = Linear::Load(attn2["to_v"], context, channels, false),
                .to_out = Linear::Load(attn2["to_out"][0], channels, channels)},
      .norm3 = LayerNorm::Load(block["norm3"], channels),
      .ff_value = half(0),
      .ff_gate = half(1),
      .ff_out = Linear::Load(block["ff"]["net"][2], wide, channels),
      .proj_out = Linear::Load(scope["proj_out"], channels, channels),
  };
}

at::Tensor SpatialTransformer::Forward(const UnetActivations& state) const {
  // A 1x1 convolution is a linear layer over tokens.
  at::Tensor residual = ToTokens(state.h);
  const int64_t channels = residual.size(2);
  const RowInvariance::Work row = {residual.size(1), channels * channels};
  RowInvariance* const rows = proj_in.rows;
  at::Tensor tokens =
      rows->RunChain(row, ToTokens(norm.Forward(state.h)), [&](at::TensorList inputs) {
        const at::Tensor projected = proj_in.Forward(inputs[0]);
        return attn1.ForwardAdd(norm1.Forward(projected), projected);
      });
  if (tokens.size(0) != state.context.size(0)) {  // the first cross-attention: halves part here
    tokens = tokens.index_select(0, state.sample_of_row);
    residual = residual.index_select(0, state.sample_of_row);
  }
  tokens.add_(state.context.narrow(1, attn2.context_offset, channels).unsqueeze(1));
  tokens = rows->RunChain(row, {tokens, residual}, [&](at::TensorList inputs) {
    const at::Tensor normed = norm3.Forward(inputs[0]);
    const at::Tensor gated = ff_value.ForwardMultiply(normed, ff_gate.ForwardGelu(normed));
    return proj_out.ForwardAdd(ff_out.ForwardAdd(gated, inputs[0]), inputs[1]);
  });
  return FromTokens(tokens, state.h);
}

Unet Unet::Load(const WeightScope& scope, const UnetConfig& config) {
  const int64_t channels = config.block_out_channels[0];
  const UnetLoader loader(scope, config);
  const WeightScope time_embedding = scope["time_embedding"];
  Unet unet = {
      .conv_in =
          Conv2d::Load(scope["conv_in"], config.in_channels, channels, 3, config.sample_size),
      .time_embedding_linear_1 = Linear::Load(time_embedding["linear_1"], channels, 4 * channels),
      .time_embedding_linear_2 =
          Linear::Load(time_embedding["linear_2"], 4 * channels, 4 * channels),
      .mid_block = loader.Mid(),
      .conv_norm_out = GroupNorm::Load(scope["conv_norm_out"], channels, config.norm_num_groups,
                                       config.norm_eps),
      .conv_out =
          Conv2d::Load(scope["conv_out"], channels, config.out_channels, 3, config.sample_size),
      .config = config,
  };
  for (size_t i = 0; i < config.block_out_channels.size(); ++i) {
    unet.down_blocks.push_back(loader.Down(i));
    unet.up_blocks.push_back(loader.Up(i));
  }
  LayOutColumns(&unet);
  return unet;
}

at::Tensor Unet::Context(const at::Tensor& image_embeds) const {
  std::vector<at::Tensor> vectors;
  ForEachBlock(*this, [&](const auto& block) {
    for (const SpatialTransformer& attention : block.attentions) {
      const at::Tensor value = attention.attn2.to_v.Forward(image_embeds.unsqueeze(1));
      vectors.push_back(attention.attn2.to_out.Forward(value).squeeze(1));
    }
  });
  return at::cat(vectors, 1);
}

at::Tensor Unet::TimeBiases(float timestep) const {
  const at::Tensor embedding =
      ToDevice(TimestepEmbedding(timestep, config.block_out_channels[0], config),
               conv_in.bias.device())
          .to(conv_in.bias.options());
  const at::Tensor h = at::silu(time_embedding_linear_1.Forward(embedding));
  const at::Tensor activated = at::silu(time_embedding_linear_2.Forward(h));
  std::vector<at::Tensor> biases;
  ForEachBlock(*this, [&](const auto& block) {
    for (const UnetResnet& resnet : block.resnets) {
      biases.push_back(resnet.time_emb_proj.Forward(activated).squeeze(1));
    }
  });
  return at::cat(biases, 1);
}

at::Tensor Unet::Forward(const at::Tensor& latents, const at::Tensor& time_biases,
                         const at::Tensor& context, const at::Tensor& sample_of_row) const {
  UnetActivations state = {.h = conv_in.Forward(ToChannelsLast(latents)),
                           .time_biases = time_biases,
                           .context = context,
                           .sample_of_row = sample_of_row};
  state.skips.push_back(state.h);
  for (const UnetDownBlock& block : down_blocks) RunDownBlock(block, &state);
  RunMidBlock(mid_block, &state);
  for (const UnetUpBlock& block : up_blocks) RunUpBlock(block, &state);
  IV_CHECK(state.skips.empty());
  return conv_out.Forward(conv_norm_out.ForwardSilu(state.h));
}

}  // namespace image_variations
