#include "pipeline/model/attention.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <type_traits>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/scaled_dot_product_attention.h"
#include "pipeline/model/small_product.h"
#include "pipeline/model/softmax.h"
#include "pipeline/model/tile_product.h"
#include "pipeline/model/vector_math.h"

namespace image_variations {
namespace {

// Scores of this many queries and keys at a time stay in the second cache, with what they are made
// from and made into.
constexpr int64_t kQueriesPerBlock = 64;
constexpr int64_t kKeysPerBlock = 512;

// Leading dimensions that are not multiples of a page spread over the sets of the first cache.
constexpr int64_t kPadding = 16;

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Products of the values' type, on tile registers where there are some.
template <typename T>
class Products {
 public:
  // bfloat16 products read pairs of consecutive k next to each other: (k / 2, n, 2).
  static constexpr int64_t kPair = std::is_same_v<T, float> ? 1 : 2;

  static bool HasTiles() { return std::is_same_v<T, c10::BFloat16> && HasTileProduct(); }

  // What m, n and k are padded to.
  int64_t row_step() const { return tiles_ ? kTileRows : 1; }
  int64_t column_step() const { return tiles_ ? kTileColumns : 1; }
  int64_t depth_step() const { return tiles_ ? kTileDepth : kPair; }

  void Multiply(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                int64_t stride_c, bool add, const T* a, const T* b, float* c) const {
    if constexpr (kPair == 2) {
      if (tiles_) return MultiplyTiles(m, n, k, stride_a, stride_b, stride_c, add, a, b, c);
    }
    MultiplySmall(m, n, k, stride_a, stride_b, stride_c, add, a, b, c);
  }

 private:
  const bool tiles_ = HasTiles();
};

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
        query_width_(RoundUp(head_width_, products_.depth_step())),
        value_width_(RoundUp(head_width_, products_.column_step())),
        padded_tokens_(RoundUp(tokens_, products_.depth_step())),
        keys_per_block_(std::min(kKeysPerBlock, padded_tokens_)),
        key_blocks_((padded_tokens_ + keys_per_block_ - 1) / keys_per_block_),
        factor_(std::numbers::log2e_v<float> / std::sqrt(static_cast<float>(head_width_))),
        projected_(projected.const_data_ptr<T>()),
        keys_(at::empty({rows_ * heads_, key_blocks_, query_width_ * ScoreStride()},
                        projected.options())),
        values_(at::empty({rows_ * heads_, padded_tokens_ * value_width_}, projected.options())) {}

  at::Tensor Run() {
    at::parallel_for(0, rows_ * heads_ * key_blocks_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        PackBlock(task / key_blocks_, task % key_blocks_ * keys_per_block_);
      }
    });
    at::Tensor out = at::empty({rows_, tokens_, width_}, keys_.options());
    const int64_t query_blocks = (tokens_ + kQueriesPerBlock - 1) / kQueriesPerBlock;
    at::parallel_for(0, rows_ * heads_ * query_blocks, 1, [&](int64_t begin, int64_t end) {
      std::optional<TileLayout> tiles;
      if (Products<T>::HasTiles()) tiles.emplace();
      Scratch scratch(*this);
      for (int64_t task = begin; task < end; ++task) {
        AttendBlock(task / query_blocks, task % query_blocks * kQueriesPerBlock, &scratch,
                    out.mutable_data_ptr<T>());
      }
    });
    return out;
  }

 private:
  static constexpr int64_t kPair = Products<T>::kPair;
  struct Pair {
    T values[kPair];
  };

  // In one block that is large enough for huge pages: with small ones each row or two of a product
  // are another page, more than a processor remembers for its stores.
  struct Scratch {
    explicit Scratch(const BlockedAttention& attention)
        : queries_size(kQueriesPerBlock * attention.query_width_ * int64_t{sizeof(T)} / 4),
          scores_size(kQueriesPerBlock * attention.ScoreStride()),
          sums_size(kQueriesPerBlock * attention.value_width_),
          memory(
              at::empty({std::max(queries_size + scores_size + sums_size, kHugePage)}, at::kFloat)),
          scores(memory.mutable_data_ptr<float>()),
          sums(scores + scores_size),
          queries(reinterpret_cast<T*>(sums + sums_size)) {
      std::fill_n(sums + sums_size, queries_size, 0.0f);
    }
    static constexpr int64_t kHugePage = (2 << 20) / sizeof(float);
    const int64_t queries_size, scores_size, sums_size;  // in floats
    const at::Tensor memory;
    float* const scores;  // and then the weights, each row in the place of its scores
    float* const sums;    // of weighted values
    T* const queries;
    RunningSoftmax softmax[kQueriesPerBlock];
  };

  int64_t ScoreStride() const { return keys_per_block_ + kPadding; }

  // The query (0), key (1) or value (2) of a token; `head` counts over rows.
  const T* Projection(int which, int64_t head, int64_t token) const {
    return projected_ + (head / heads_ * tokens_ + token) * 3 * width_ + which * width_ +
           head % heads_ * head_width_;
  }
  T* Keys(int64_t head, int64_t block) const {
    return keys_.template mutable_data_ptr<T>() +
           (head * key_blocks_ + block) * query_width_ * ScoreStride();
  }
  T* Values(int64_t head, int64_t token) const {
    return values_.template mutable_data_ptr<T>() + (head * padded_tokens_ + token) * value_width_;
  }

  // Lays out a block of one head's keys, transposed, and values as the right sides of products;
  // with zeros where there are no tokens and no channels.
  void PackBlock(int64_t head, int64_t first) {
    const std::vector<T> zeros(static_cast<size_t>(head_width_), T(0));
    const auto projection = [&](int which, int64_t token) {
      return token < tokens_ ? Projection(which, head, token) : zeros.data();
    };
    const int64_t end = std::min(first + keys_per_block_, padded_tokens_);
    T* const keys = Keys(head, first / keys_per_block_);
    std::fill_n(keys + head_width_ * ScoreStride(), (query_width_ - head_width_) * ScoreStride(),
                T(0));
    for (int64_t token = first; token < end; ++token) {
      const auto* const key = reinterpret_cast<const Pair*>(projection(1, token));
      auto* const to = reinterpret_cast<Pair*>(keys) + (token - first);
      for (int64_t i = 0; i < head_width_ / kPair; ++i) to[i * ScoreStride()] = key[i];
    }
    for (int64_t token = first; token < end; token += kPair) {
      T* const to = Values(head, token);
      if constexpr (kPair == 1) {
        std::copy_n(projection(2, token), head_width_, to);
      } else {
        Interleave(projection(2, token), projection(2, token + 1), head_width_, to);
      }
      std::fill_n(to + head_width_ * kPair, (value_width_ - head_width_) * kPair, T(0));
    }
  }

  void AttendBlock(int64_t head, int64_t first_query, Scratch* scratch, T* out) const {
    const int64_t queries = std::min(kQueriesPerBlock, tokens_ - first_query);
    const int64_t rows = RoundUp(queries, products_.row_step());
    for (int64_t query = 0; query < queries; ++query) {
      std::copy_n(Projection(0, head, first_query + query), head_width_,
                  scratch->queries + query * query_width_);
    }
    std::fill_n(scratch->softmax, queries, RunningSoftmax());
    for (int64_t first_key = 0; first_key < tokens_; first_key += keys_per_block_) {
      const int64_t keys = std::min(keys_per_block_, padded_tokens_ - first_key);
      products_.Multiply(rows, keys, query_width_, query_width_, ScoreStride(), ScoreStride(),
                         /*add=*/false, scratch->queries, Keys(head, first_key / keys_per_block_),
                         scratch->scores);
      const int64_t size = std::min(keys, tokens_ - first_key);
      WeighScores<T>({scratch->scores, ScoreStride(), queries, size, keys}, factor_,
                     scratch->softmax, {scratch->sums, value_width_, head_width_});
      products_.Multiply(rows, value_width_, keys, WeightStride(), value_width_, value_width_,
                         /*add=*/first_key > 0, Weights(scratch), Values(head, first_key),
                         scratch->sums);
    }
    for (int64_t query = 0; query < queries; ++query) {
      Multiply(scratch->sums + query * value_width_, head_width_,
               1 / scratch->softmax[query].WeightSum(),
               out + (head / heads_ * tokens_ + first_query + query) * width_ +
                   head % heads_ * head_width_);
    }
  }

  // As values of T.
  int64_t WeightStride() const { return ScoreStride() * int64_t{sizeof(float) / sizeof(T)}; }
  static T* Weights(Scratch* scratch) { return reinterpret_cast<T*>(scratch->scores); }

  const Products<T> products_;
  const int64_t rows_, tokens_, heads_, width_, head_width_;
  const int64_t query_width_, value_width_, padded_tokens_;  // padded to what products take
  const int64_t keys_per_block_, key_blocks_;
  const float factor_;  // of a query times a key, before 2 to the power of it
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
