#include "pipeline/image/exif_orientation.h"

#include <cstring>

#include "absl/strings/match.h"

namespace image_variations {
namespace {

constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShort = 3;
constexpr size_t kEntryBytes = 12;

// Numbers of a TIFF structure in its own byte order; 0 outside the bytes.
class TiffReader {
 public:
  explicit TiffReader(absl::string_view tiff) : tiff_(tiff), big_endian_(tiff[0] == 'M') {}

  uint32_t Read(size_t at, size_t count) const {
    if (at > tiff_.size() || tiff_.size() - at < count) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t next = big_endian_ ? at + i : at + count - 1 - i;
      value = value << 8 | static_cast<uint8_t>(tiff_[next]);
    }
    return value;
  }

 private:
  absl::string_view tiff_;
  bool big_endian_;
};

}  // namespace

int ReadExifOrientation(absl::string_view tiff) {
  const bool known_order = absl::StartsWith(tiff, "II") || absl::StartsWith(tiff, "MM");
  if (!known_order) return 1;
  const TiffReader reader(tiff);
  if (reader.Read(2, 2) != 42) return 1;
  const size_t directory = reader.Read(4, 4);
  const size_t entries = reader.Read(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (reader.Read(entry, 2) != kOrientationTag) continue;
    const uint32_t value = reader.Read(entry + 8, 2);
    const bool readable = reader.Read(entry + 2, 2) == kShort && reader.Read(entry + 4, 4) == 1;
    return readable && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

UprightImage::UprightImage(const StoredHeader& stored) : stored_width_(stored.width) {
  const bool swaps = SwapsSides(stored.orientation);
  const int o = stored.orientation;
  const bool x_flips =
      o == 2 || o == 3 || o == 7 || o == 8;  // stored left is upright right or bottom
  const bool y_flips =
      o == 3 || o == 4 || o == 6 || o == 7;  // stored top is upright right or bottom
  image_.width = swaps ? stored.height : stored.width;
  image_.height = swaps ? stored.width : stored.height;
  image_.rgb.resize(RgbBytes(image_.width, image_.height));
  const int64_t x_unit = swaps ? image_.width : 1;
  const int64_t y_unit = swaps ? 1 : image_.width;
  x_step_ = x_flips ? -x_unit : x_unit;
  y_step_ = y_flips ? -y_unit : y_unit;
  origin_ =
      (x_flips ? x_unit * (stored.width - 1) : 0) + (y_flips ? y_unit * (stored.height - 1) : 0);
}

void UprightImage::PutRow(int y, const uint8_t* rgb) {
  uint8_t* to = image_.rgb.data() + 3 * (origin_ + y * y_step_);
  if (x_step_ == 1) {
    std::memcpy(to, rgb, static_cast<size_t>(3 * stored_width_));
    return;
  }
  for (int64_t x = 0; x < stored_width_; ++x) {
    std::memcpy(to + 3 * x * x_step_, rgb + 3 * x, 3);
  }
}

}  // namespace image_variations
