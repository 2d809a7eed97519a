#include "pipeline/model/winograd.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/empty.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/model/avx512.h"
#include "pipeline/model/small_product.h"

namespace image_variations {
namespace {

constexpr int64_t kPositions = 16;        // of a transformed tile of 4 x 4 pixels
constexpr int64_t kOutputsPerBlock = 64;  // columns of a product
constexpr int64_t kTilesPerBlock = 96;    // rows of a product
// Transformed pictures of this many bytes at a time stay in the last cache.
constexpr int64_t kBytesAtATime = 12 << 20;

}  // namespace

#ifdef IV_HAS_AVX512
namespace {

// B^T d of one column or row of a tile.
struct Four {
  __m512 v[4];
};

IV_AVX512_BF16 inline Four TransformInput(const Four& d) {
  return {{_mm512_sub_ps(d.v[0], d.v[2]), _mm512_add_ps(d.v[1], d.v[2]),
           _mm512_sub_ps(d.v[2], d.v[1]), _mm512_sub_ps(d.v[1], d.v[3])}};
}

// V = B^T d B. `pixels`: the tile's 16, in order; position i of the result is at out + i * stride.
template <typename T>
IV_AVX512_BF16 void TransformTile(const T* const* pixels, int64_t channels, int64_t stride,
                                  T* out) {
  for (int64_t channel = 0; channel < channels; channel += kLanes) {
    Four columns[4];
#pragma GCC unroll 4
    for (int column = 0; column < 4; ++column) {
      Four d;
#pragma GCC unroll 4
      for (int row = 0; row < 4; ++row) {
        d.v[row] = LoadLanes(pixels[4 * row + column] + channel);
      }
      columns[column] = TransformInput(d);
    }
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
      const Four v = TransformInput(
          {{columns[0].v[row], columns[1].v[row], columns[2].v[row], columns[3].v[row]}});
#pragma GCC unroll 4
      for (int column = 0; column < 4; ++column) {
        StoreLanes(v.v[column], out + (4 * row + column) * stride + channel);
      }
    }
  }
}

// Y = A^T m A, plus bias, plus the addend where there is one. `results`, `addends`: of the four
// pixels, null where the picture has ended.
template <typename T>
IV_AVX512_BF16 void FinishTile(const float* m, int64_t stride, int64_t outputs, const float* bias,
                               const T* const* addends, T* const* results) {
  for (int64_t output = 0; output < outputs; output += kLanes) {
    __m512 first[4], second[4];
#pragma GCC unroll 4
    for (int column = 0; column < 4; ++column) {
      __m512 rows[4];
#pragma GCC unroll 4
      for (int row = 0; row < 4; ++row) {
        rows[row] = _mm512_loadu_ps(m + (4 * row + column) * stride + output);
      }
      first[column] = _mm512_add_ps(_mm512_add_ps(rows[0], rows[1]), rows[2]);
      second[column] = _mm512_sub_ps(_mm512_sub_ps(rows[1], rows[2]), rows[3]);
    }
    const __m512 offset = _mm512_loadu_ps(bias + output);
#pragma GCC unroll 2
    for (int row = 0; row < 2; ++row) {
      const __m512* sums = row == 0 ? first : second;
      __m512 y[2] = {_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), sums[2]),
                     _mm512_sub_ps(_mm512_sub_ps(sums[1], sums[2]), sums[3])};
#pragma GCC unroll 2
      for (int column = 0; column < 2; ++column) {
        T* const result = results[2 * row + column];
        if (result == nullptr) continue;
        __m512 value = _mm512_add_ps(y[column], offset);
        const T* const addend = addends[2 * row + column];
        if (addend != nullptr) value = _mm512_add_ps(value, LoadLanes(addend + output));
        StoreLanes(value, result + output);
      }
    }
  }
}

// G g G^T of the 3x3 kernels of one of `in` channels, channels last, of `outputs` outputs. Position
// i of output o is at u[i][o].
template <typename T>
void TransformKernels(const T* kernels, int64_t in, int64_t outputs, float (*u)[kOutputsPerBlock]) {
  float g[9][kOutputsPerBlock];
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t i = 0; i < 9; ++i) g[i][o] = static_cast<float>(kernels[(9 * o + i) * in]);
  }
  float rows[4][3][kOutputsPerBlock];
  const auto transform = [outputs](const float* a, const float* b, const float* c, float* first,
                                   float* second, float* third, float* fourth) {
    for (int64_t o = 0; o < outputs; ++o) {
      first[o] = a[o];
      second[o] = 0.5f * (a[o] + b[o] + c[o]);
      third[o] = 0.5f * (a[o] - b[o] + c[o]);
      fourth[o] = c[o];
    }
  };
  for (int i = 0; i < 3; ++i) {
    transform(g[i], g[3 + i], g[6 + i], rows[0][i], rows[1][i], rows[2][i], rows[3][i]);
  }
  for (int i = 0; i < 4; ++i) {
    transform(rows[i][0], rows[i][1], rows[i][2], u[4 * i], u[4 * i + 1], u[4 * i + 2],
              u[4 * i + 3]);
  }
}

// One block of outputs, for the first of which `weight` and `packed` are; see PackWinogradWeight.
template <typename T>
void PackBlock(const T* weight, int64_t in, int64_t outputs, int64_t position_stride, T* packed) {
  constexpr int64_t kPair = std::is_same_v<T, float> ? 1 : 2;
  float u[kPositions][kOutputsPerBlock];
  for (int64_t channel = 0; channel < in; ++channel) {
    TransformKernels(weight + channel, in, outputs, u);
    T* const out = packed + channel / kPair * outputs * kPair + channel % kPair;
    for (int64_t position = 0; position < kPositions; ++position) {
      for (int64_t o = 0; o < outputs; ++o) {
        out[position * position_stride + kPair * o] = T(u[position][o]);
      }
    }
  }
}

template <typename T>
void PackBlocks(const at::Tensor& weight, const at::Tensor& packed) {
  const int64_t out = weight.size(0), in = weight.size(1);
  const T* const from = weight.const_data_ptr<T>();
  T* const to = packed.mutable_data_ptr<T>();
  const int64_t blocks = (out + kOutputsPerBlock - 1) / kOutputsPerBlock;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kOutputsPerBlock; first < std::min(out, end * kOutputsPerBlock);
         first += kOutputsPerBlock) {
      PackBlock(from + first * in * 9, in, std::min(kOutputsPerBlock, out - first), out * in,
                to + first * in);
    }
  });
}

template <typename T>
class WinogradConvolution {
 public:
  WinogradConvolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      const at::Tensor& addend)
      : in_(x.size(1)),
        out_(bias.size(0)),
        height_(x.size(2)),
        width_(x.size(3)),
        tile_columns_((width_ + 1) / 2),
        tiles_per_row_((height_ + 1) / 2 * tile_columns_),
        x_(x.const_data_ptr<T>()),
        weight_(weight.const_data_ptr<T>()),
        addend_(addend.defined() ? addend.const_data_ptr<T>() : nullptr),
        float_bias_(bias.to(at::kFloat).contiguous()),
        result_(at::empty({x.size(0), out_, height_, width_}, x.options(),
                          at::MemoryFormat::ChannelsLast)),
        zeros_(static_cast<size_t>(in_), T(0)) {}

  at::Tensor Run() {
    const int64_t tiles = result_.size(0) * tiles_per_row_;
    const int64_t bytes_per_block =
        kTilesPerBlock * kPositions * in_ * static_cast<int64_t>(sizeof(T));
    const int64_t at_a_time =
        kTilesPerBlock * std::max<int64_t>(2, kBytesAtATime / bytes_per_block);
    transformed_ = at::empty({(std::min(tiles, at_a_time) + kTilesPerBlock - 1) / kTilesPerBlock,
                              kPositions, kTilesPerBlock, in_},
                             result_.options().memory_format(at::MemoryFormat::Contiguous));
    for (int64_t first = 0; first < tiles; first += at_a_time) {
      RunTiles(first, std::min(tiles, first + at_a_time));
    }
    return result_;
  }

 private:
  // Products' sums of a block of tiles and outputs; a position's are a little more than a power of
  // two apart, so that they do not all fall into the same set of the first cache.
  static constexpr int64_t kSumStride = kTilesPerBlock * kOutputsPerBlock + kLanes;

  void RunTiles(int64_t first, int64_t end) {
    at::parallel_for(0, end - first, 4, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) Transform(first + i, i);
    });
    const int64_t output_blocks = (out_ + kOutputsPerBlock - 1) / kOutputsPerBlock;
    const int64_t tile_blocks = (end - first + kTilesPerBlock - 1) / kTilesPerBlock;
    at::parallel_for(0, tile_blocks * output_blocks, 1, [&](int64_t from, int64_t to) {
      std::vector<float> sums(kPositions * kSumStride);
      for (int64_t task = from; task < to; ++task) {
        const int64_t block = task / output_blocks;
        const int64_t tiles = std::min(kTilesPerBlock, end - first - block * kTilesPerBlock);
        Multiply(block, tiles, task % output_blocks, sums.data());
        Finish(first + block * kTilesPerBlock, tiles, task % output_blocks, sums.data());
      }
    });
  }

  T* Transformed(int64_t block, int64_t position, int64_t tile) const {
    return transformed_.template mutable_data_ptr<T>() +
           ((block * kPositions + position) * kTilesPerBlock + tile) * in_;
  }

  int64_t PixelIndex(int64_t row, int64_t y, int64_t x) const {
    return (row * height_ + y) * width_ + x;
  }

  void Transform(int64_t tile, int64_t index) const {
    const int64_t row = tile / tiles_per_row_, in_row = tile % tiles_per_row_;
    const int64_t top = 2 * (in_row / tile_columns_) - 1, left = 2 * (in_row % tile_columns_) - 1;
    const T* pixels[kPositions];
    for (int64_t i = 0; i < kPositions; ++i) {
      const int64_t y = top + i / 4, x = left + i % 4;
      const bool is_inside = y >= 0 && y < height_ && x >= 0 && x < width_;
      pixels[i] = is_inside ? x_ + PixelIndex(row, y, x) * in_ : zeros_.data();
    }
    TransformTile(pixels, in_, kTilesPerBlock * in_,
                  Transformed(index / kTilesPerBlock, 0, index % kTilesPerBlock));
  }

  void Multiply(int64_t block, int64_t tiles, int64_t output_block, float* sums) const {
    const int64_t first_output = output_block * kOutputsPerBlock;
    const int64_t outputs = std::min(kOutputsPerBlock, out_ - first_output);
    for (int64_t position = 0; position < kPositions; ++position) {
      MultiplySmall(tiles, outputs, in_, in_, outputs, kOutputsPerBlock, /*add=*/false,
                    Transformed(block, position, 0),
                    weight_ + (position * out_ + first_output) * in_, sums + position * kSumStride);
    }
  }

  void Finish(int64_t first_tile, int64_t tiles, int64_t output_block, const float* sums) const {
    const int64_t first_output = output_block * kOutputsPerBlock;
    const int64_t outputs = std::min(kOutputsPerBlock, out_ - first_output);
    T* const result = result_.template mutable_data_ptr<T>();
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t row = (first_tile + i) / tiles_per_row_,
                    tile = (first_tile + i) % tiles_per_row_;
      const T* addends[4] = {};
      T* results[4] = {};
      for (int64_t pixel = 0; pixel < 4; ++pixel) {
        const int64_t y = 2 * (tile / tile_columns_) + pixel / 2;
        const int64_t x = 2 * (tile % tile_columns_) + pixel % 2;
        if (y >= height_ || x >= width_) continue;
        const int64_t offset = PixelIndex(row, y, x) * out_ + first_output;
        results[pixel] = result + offset;
        if (addend_ != nullptr) addends[pixel] = addend_ + offset;
      }
      FinishTile(sums + i * kOutputsPerBlock, kSumStride, outputs,
                 float_bias_.const_data_ptr<float>() + first_output, addends, results);
    }
  }

  const int64_t in_, out_, height_, width_, tile_columns_, tiles_per_row_;
  const T* const x_;
  const T* const weight_;
  const T* const addend_;
  const at::Tensor float_bias_, result_;
  at::Tensor transformed_;  // (blocks of tiles, positions, tiles, in)
  const std::vector<T> zeros_;
};

}  // namespace

bool HasWinogradKernel(const at::Tensor& weight) {
  return weight.is_cpu() && weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 &&
         weight.size(0) % kLanes == 0 && weight.size(1) % kLanes == 0 &&
         HasSmallProduct(weight.scalar_type()) && __builtin_cpu_supports("avx512bf16");
}

at::Tensor PackWinogradWeight(const at::Tensor& weight) {
  const at::Tensor kernels = weight.contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor packed = at::empty({kPositions, weight.size(0), weight.size(1)}, weight.options());
  if (weight.scalar_type() == at::kFloat) {
    PackBlocks<float>(kernels, packed);
  } else {
    PackBlocks<c10::BFloat16>(kernels, packed);
  }
  return packed;
}

at::Tensor RunWinograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& addend) {
  return weight.scalar_type() == at::kFloat
             ? WinogradConvolution<float>(x, weight, bias, addend).Run()
             : WinogradConvolution<c10::BFloat16>(x, weight, bias, addend).Run();
}

#else

bool HasWinogradKernel(const at::Tensor&) { return false; }

at::Tensor PackWinogradWeight(const at::Tensor& weight) {
  IV_CHECK(HasWinogradKernel(weight));
  return weight;
}

at::Tensor RunWinograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor&,
                       const at::Tensor&) {
  IV_CHECK(HasWinogradKernel(weight));
  return x;
}

#endif

bool IsWinogradWeight(const at::Tensor& weight) { return weight.dim() == 3; }

}  // namespace image_variations
