// UNet2DConditionModel of Stable Diffusion 1.x, conditioned on one token: the image embedding.
//
// Attention over one key is that key's value, whatever the query: each cross-attention is a vector
// per image and layer, to_out(to_v(embedding)), that depends on no pixel and no timestep. All of
// them together are the image's *context*, computed once. For the unconditional half, whose
// embedding is zero, they are the biases of to_out. norm2, to_q and to_k are never run.
#pragma once

#include <optional>
#include <vector>

#include "ATen/core/Tensor.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/model/layers.h"
#include "pipeline/model/upsampler.h"
#include "pipeline/model/weight_loader.h"

namespace image_variations {

// The state between two layers. Both halves of a guided sample are the same until the first
// cross-attention: until there `h` has a row per sample, after it a row per UNet row.
struct UnetActivations {
  at::Tensor h;
  std::vector<at::Tensor> skips;
  at::Tensor time_biases;    // (samples, Unet::time_width)
  at::Tensor context;        // (rows, Unet::context_width)
  at::Tensor sample_of_row;  // (rows), int64

  // `tensor` with as many rows as `h`.
  at::Tensor MatchRows(const at::Tensor& tensor) const;
};

// ResnetBlock2D with its share of the time embedding.
struct UnetResnet {
  ResnetBlock block;
  Linear time_emb_proj;
  int64_t time_offset = 0;  // of its columns in time_biases

  // `skip`: the channels that come from the way down; undefined there.
  at::Tensor Forward(const UnetActivations&, const at::Tensor& skip = {}) const;
};

// What is left of attn2.
struct CollapsedAttention {
  Linear to_v;
  Linear to_out;
  int64_t context_offset = 0;  // of its columns in context
};

// Transformer2DModel with one BasicTransformerBlock.
struct SpatialTransformer {
  GroupNorm norm;
  Linear proj_in;
  LayerNorm norm1;
  SelfAttention attn1;
  CollapsedAttention attn2;
  LayerNorm norm3;
  Linear ff_value, ff_gate;  // ff.net.0.proj: its first and its second half
  Linear ff_out;             // ff.net.2
  Linear proj_out;

  static SpatialTransformer Load(const WeightScope&, int64_t channels, int64_t heads,
                                 const UnetConfig&);
  at::Tensor Forward(const UnetActivations&) const;
};

struct UnetDownBlock {
  std::vector<UnetResnet> resnets;
  std::vector<SpatialTransformer> attentions;  // as many, or none
  std::optional<Conv2d> downsampler;           // none in the last block
};

struct UnetMidBlock {
  std::vector<UnetResnet> resnets;             // two
  std::vector<SpatialTransformer> attentions;  // one, between them
};

struct UnetUpBlock {
  std::vector<UnetResnet> resnets;
  std::vector<SpatialTransformer> attentions;
  std::optional<Upsampler> upsampler;
};

struct Unet {
  Conv2d conv_in;
  Linear time_embedding_linear_1, time_embedding_linear_2;
  std::vector<UnetDownBlock> down_blocks;
  UnetMidBlock mid_block;
  std::vector<UnetUpBlock> up_blocks;
  GroupNorm conv_norm_out;
  Conv2d conv_out;

  UnetConfig config;
  int64_t time_width = 0;            // output channels of all resnets
  int64_t context_width = 0;         // channels of all cross-attentions
  at::Tensor unconditional_context;  // (1, context_width)

  static Unet Load(const WeightScope&, const UnetConfig&);

  // (1, context_width) of one image's embedding (1, cross_attention_dim).
  at::Tensor Context(const at::Tensor& image_embeds) const;
  // (1, time_width): what each resnet adds at this timestep.
  at::Tensor TimeBiases(float timestep) const;
  // The predicted noise, (rows, out_channels, h, w). latents: (samples, in_channels, h, w), scaled
  // for the model; time_biases: (samples, time_width); context: (rows, context_width). Row r
  // belongs to sample sample_of_row[r]; with as many rows as samples it must be 0, 1, 2, ...
  at::Tensor Forward(const at::Tensor& latents, const at::Tensor& time_biases,
                     const at::Tensor& context, const at::Tensor& sample_of_row) const;
};

}  // namespace image_variations
