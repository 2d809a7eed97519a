#include "pipeline/model/tile_product.h"

#include "ATen/cpu/Utils.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/model/avx512.h"

namespace image_variations {

#ifdef IV_HAS_AVX512
namespace {

#define IV_AMX __attribute__((target("amx-tile,amx-bf16")))

constexpr int kTiles = 8;  // 0 to 3: two by two of c; 4, 5: of a; 6, 7: of b

// Intel's manual, "Tile configuration", palette 1: every tile has 16 rows of 64 bytes.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfiguration) == 64);

IV_AMX void LoadConfiguration(const TileConfiguration& configuration) {
  // GCC believes that the instruction reads eight bytes, and leaves out the others.
  asm volatile("" : : "r"(&configuration) : "memory");
  _tile_loadconfig(&configuration);
}
IV_AMX void ReleaseTiles() { _tile_release(); }

// Two by two tiles of c, or what there is of them.
template <int kRows, int kColumns>
IV_AMX inline void MultiplyBlock(int64_t k, int64_t stride_a, int64_t stride_b, int64_t stride_c,
                                 bool add, const c10::BFloat16* a, const c10::BFloat16* b,
                                 float* c) {
  const int64_t bytes_a = stride_a * 2, bytes_b = stride_b * 4, bytes_c = stride_c * 4;
  float* const below = c + kTileRows * stride_c;
  if (add) {
    _tile_loadd(0, c, bytes_c);
    if constexpr (kColumns == 2) _tile_loadd(1, c + kTileColumns, bytes_c);
    if constexpr (kRows == 2) _tile_loadd(2, below, bytes_c);
    if constexpr (kRows == 2 && kColumns == 2) _tile_loadd(3, below + kTileColumns, bytes_c);
  } else {
    _tile_zero(0);
    if constexpr (kColumns == 2) _tile_zero(1);
    if constexpr (kRows == 2) _tile_zero(2);
    if constexpr (kRows == 2 && kColumns == 2) _tile_zero(3);
  }
  for (int64_t depth = 0; depth < k; depth += kTileDepth) {
    const c10::BFloat16* const right = b + depth * stride_b;
    _tile_loadd(6, right, bytes_b);
    _tile_loadd(4, a + depth, bytes_a);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRows == 2) {
      _tile_loadd(5, a + kTileRows * stride_a + depth, bytes_a);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kColumns == 2) {
      _tile_loadd(7, right + 2 * kTileColumns, bytes_b);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows == 2 && kColumns == 2) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, bytes_c);
  if constexpr (kColumns == 2) _tile_stored(1, c + kTileColumns, bytes_c);
  if constexpr (kRows == 2) _tile_stored(2, below, bytes_c);
  if constexpr (kRows == 2 && kColumns == 2) _tile_stored(3, below + kTileColumns, bytes_c);
}

}  // namespace

bool HasTileProduct() {
  // Asks the kernel too: without its leave the first tile instruction ends the process.
  static const bool has = __builtin_cpu_supports("amx-bf16") && at::cpu::init_amx();
  return has;
}

TileLayout::TileLayout() {
  TileConfiguration configuration;
  for (int tile = 0; tile < kTiles; ++tile) {
    configuration.row_bytes[tile] = 64;
    configuration.rows[tile] = 16;
  }
  LoadConfiguration(configuration);
}

TileLayout::~TileLayout() { ReleaseTiles(); }

IV_AMX void MultiplyTiles(int64_t m, int64_t n, int64_t k, int64_t stride_a, int64_t stride_b,
                          int64_t stride_c, bool add, const c10::BFloat16* a,
                          const c10::BFloat16* b, float* c) {
  for (int64_t column = 0; column < n; column += 2 * kTileColumns) {
    const bool is_pair = column + kTileColumns < n;
    const auto multiply_columns = is_pair ? MultiplyBlock<2, 2> : MultiplyBlock<2, 1>;
    int64_t row = 0;
    for (; row + kTileRows < m; row += 2 * kTileRows) {
      multiply_columns(k, stride_a, stride_b, stride_c, add, a + row * stride_a, b + 2 * column,
                       c + row * stride_c + column);
    }
    if (row == m) continue;
    const auto multiply_rest = is_pair ? MultiplyBlock<1, 2> : MultiplyBlock<1, 1>;
    multiply_rest(k, stride_a, stride_b, stride_c, add, a + row * stride_a, b + 2 * column,
                  c + row * stride_c + column);
  }
}

#else

bool HasTileProduct() { return false; }

TileLayout::TileLayout() { IV_CHECK(HasTileProduct()); }

TileLayout::~TileLayout() = default;

void MultiplyTiles(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, const c10::BFloat16*,
                   const c10::BFloat16*, float*) {
  IV_CHECK(HasTileProduct());
}

#endif

}  // namespace image_variations
