// Products of bfloat16 matrices on the tile registers of AMX, which Intel's processors have from
// Sapphire Rapids on: eight times what their vector registers do.
#pragma once

#include <cstdint>

#include "c10/util/BFloat16.h"

namespace image_variations {

// Whether this processor, this kernel and this compiler let the process have tile registers.
bool HasTileProduct();

// What m, n and k of a product are multiples of.
constexpr int64_t kTileRows = 16;
constexpr int64_t kTileColumns = 16;
constexpr int64_t kTileDepth = 32;

// While one lives, the calling thread's tile registers are laid out for MultiplyTiles; oneDNN must
// not be called in between. HasTileProduct() must be true.
class TileLayout {
 public:
  TileLayout();
  ~TileLayout();
  TileLayout(const TileLayout&) = delete;
  TileLayout& operator=(const TileLayout&) = delete;
};

// c = a * b, or c += a * b; as MultiplySmall for bfloat16 (small_product.h), in multiples of a
// tile. What is added first differs from MultiplySmall's order.
void MultiplyTiles(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                   int64_t stride_c, bool add, const c10::BFloat16* a, const c10::BFloat16* b,
                   float* c);

}  // namespace image_variations
