#include "pipeline/model/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/scaled_dot_product_attention.h"
#include "pipeline/model/small_product.h"
#include "pipeline/model/vector_math.h"

namespace image_variations {
namespace {

// Scores of this many queries and keys at a time stay in the second cache, with what they are made
// from and made into.
constexpr int64_t kQueriesPerBlock = 64;
constexpr int64_t kKeysPerBlock = 512;

// Leading dimensions that are not multiples of a page spread over the sets of the first cache.
constexpr int64_t kPadding = 16;

// Attention in blocks, with the softmax of a row of scores corrected as blocks come in (Milakov and
// Gimelshein, 2018; Dao et al., 2022).
template <typename T>
class BlockedAttention {
 public:
  BlockedAttention(const at::Tensor& projected, int64_t heads)
      : rows_(projected.size(0)),
        tokens_(projected.size(1)),
        heads_(heads),
        width_(projected.size(2) / 3),
        head_width_(width_ / heads),
        padded_tokens_((tokens_ + 1) / 2 * 2),
        keys_per_block_(std::min(kKeysPerBlock, padded_tokens_)),
        scale_(1 / std::sqrt(static_cast<float>(head_width_))),
        projected_(projected.const_data_ptr<T>()) {
    const int64_t key_blocks = (padded_tokens_ + keys_per_block_ - 1) / keys_per_block_;
    keys_ = at::empty({rows_ * heads_, key_blocks, head_width_ * (keys_per_block_ + kPadding)},
                      projected.options());
    values_ = at::empty({rows_ * heads_, padded_tokens_ * head_width_}, projected.options());
  }

  at::Tensor Run() {
    at::parallel_for(0, rows_ * heads_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) Pack(task);
    });
    at::Tensor out = at::empty({rows_, tokens_, width_}, keys_.options());
    const int64_t query_blocks = (tokens_ + kQueriesPerBlock - 1) / kQueriesPerBlock;
    at::parallel_for(0, rows_ * heads_ * query_blocks, 1, [&](int64_t begin, int64_t end) {
      Scratch scratch(*this);
      for (int64_t task = begin; task < end; ++task) {
        AttendBlock(task / query_blocks, task % query_blocks * kQueriesPerBlock, &scratch,
                    out.mutable_data_ptr<T>());
      }
    });
    return out;
  }

 private:
  // bfloat16 products read pairs of consecutive k next to each other: (k / 2, n, 2).
  static constexpr int64_t kPair = std::is_same_v<T, float> ? 1 : 2;

  struct Scratch {
    explicit Scratch(const BlockedAttention& attention)
        : scores(kQueriesPerBlock * attention.ScoreStride()),
          weights(kPair == 2 ? scores.size() : 0),
          sums(kQueriesPerBlock * attention.head_width_) {}
    std::vector<float> scores;
    std::vector<T> weights;   // the same, rounded; float32 ones replace the scores
    std::vector<float> sums;  // of weighted values
    float maximum[kQueriesPerBlock];
    float weight_sum[kQueriesPerBlock];
  };

  int64_t ScoreStride() const { return keys_per_block_ + kPadding; }

  // The query (0), key (1) or value (2) of a token; `head` counts over rows.
  const T* Projection(int which, int64_t head, int64_t token) const {
    return projected_ + (head / heads_ * tokens_ + token) * 3 * width_ + which * width_ +
           head % heads_ * head_width_;
  }
  T* Keys(int64_t head, int64_t block) const {
    return keys_.template mutable_data_ptr<T>() +
           (head * keys_.size(1) + block) * head_width_ * ScoreStride();
  }
  T* Values(int64_t head, int64_t token) const {
    return values_.template mutable_data_ptr<T>() + (head * padded_tokens_ + token) * head_width_;
  }

  // Lays out one head's keys, transposed, and values as the right sides of products.
  void Pack(int64_t head) {
    const std::vector<T> zeros(static_cast<size_t>(head_width_), T(0));
    for (int64_t token = 0; token < padded_tokens_; ++token) {
      const bool is_padding = token >= tokens_;
      const T* key = is_padding ? zeros.data() : Projection(1, head, token);
      T* to = Keys(head, token / keys_per_block_) + token % keys_per_block_ * kPair;
      for (int64_t i = 0; i < head_width_; i += kPair) {
        for (int64_t pair = 0; pair < kPair; ++pair) to[pair] = key[i + pair];
        to += ScoreStride() * kPair;
      }
      const T* value = is_padding ? zeros.data() : Projection(2, head, token);
      to = Values(head, token / kPair * kPair) + token % kPair;
      for (int64_t i = 0; i < head_width_; ++i) to[i * kPair] = value[i];
    }
  }

  void AttendBlock(int64_t head, int64_t first_query, Scratch* scratch, T* out) const {
    const int64_t queries = std::min(kQueriesPerBlock, tokens_ - first_query);
    std::fill_n(scratch->maximum, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch->weight_sum, queries, 0.0f);
    for (int64_t first_key = 0; first_key < tokens_; first_key += keys_per_block_) {
      const int64_t keys = std::min(keys_per_block_, padded_tokens_ - first_key);
      MultiplySmall(queries, keys, head_width_, 3 * width_, ScoreStride(), ScoreStride(),
                    /*add=*/false, Projection(0, head, first_query),
                    Keys(head, first_key / keys_per_block_), scratch->scores.data());
      for (int64_t query = 0; query < queries; ++query) {
        WeighScores(query, std::min(keys, tokens_ - first_key), keys, first_key == 0, scratch);
      }
      MultiplySmall(queries, head_width_, keys, ScoreStride(), head_width_, head_width_,
                    /*add=*/first_key > 0, Weights(*scratch), Values(head, first_key),
                    scratch->sums.data());
    }
    for (int64_t query = 0; query < queries; ++query) {
      Multiply(scratch->sums.data() + query * head_width_, head_width_,
               1 / scratch->weight_sum[query],
               out + (head / heads_ * tokens_ + first_query + query) * width_ +
                   head % heads_ * head_width_);
    }
  }

  static const T* Weights(const Scratch& scratch) {
    if constexpr (kPair == 2)
      return scratch.weights.data();
    else
      return scratch.scores.data();
  }

  // Turns a query's scores into weights relative to the largest score so far, and what was summed
  // up before with it.
  void WeighScores(int64_t query, int64_t keys, int64_t padded_keys, bool is_first,
                   Scratch* scratch) const {
    float* const scores = scratch->scores.data() + query * ScoreStride();
    const float before = scratch->maximum[query];
    const float maximum = MaximumOf(scores, keys, before);
    if (!is_first && maximum > before) {
      const float correction = std::exp(scale_ * (before - maximum));
      scratch->weight_sum[query] *= correction;
      Multiply(scratch->sums.data() + query * head_width_, head_width_, correction);
    }
    scratch->maximum[query] = maximum;
    scratch->weight_sum[query] += ExpAndSum(scores, keys, scale_, maximum, scores);
    std::fill(scores + keys, scores + padded_keys, 0.0f);
    if constexpr (kPair == 2) {
      RoundToBfloat16(scores, padded_keys, scratch->weights.data() + query * ScoreStride());
    }
  }

  const int64_t rows_, tokens_, heads_, width_, head_width_, padded_tokens_, keys_per_block_;
  const float scale_;
  const T* const projected_;
  at::Tensor keys_, values_;
};

bool HasBlockedKernel(const at::Tensor& projected, int64_t heads) {
  if (!projected.is_cpu() || !projected.is_contiguous()) return false;
  return HasSmallProduct(projected.scalar_type()) &&
         (projected.scalar_type() == at::kFloat || projected.size(2) / 3 / heads % 2 == 0);
}

}  // namespace

at::Tensor Attend(const at::Tensor& projected, int64_t heads) {
  if (HasBlockedKernel(projected, heads)) {
    return projected.scalar_type() == at::kFloat
               ? BlockedAttention<float>(projected, heads).Run()
               : BlockedAttention<c10::BFloat16>(projected, heads).Run();
  }
  const int64_t tokens = projected.size(1);
  const int64_t width = projected.size(2) / 3;
  const auto split = [&](int64_t which) {
    return projected.narrow(2, which * width, width)
        .view({-1, tokens, heads, width / heads})
        .transpose(1, 2);
  };
  return at::scaled_dot_product_attention(split(0), split(1), split(2))
      .transpose(1, 2)
      .reshape({-1, tokens, width});
}

}  // namespace image_variations
