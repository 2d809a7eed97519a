#include "pipeline/image/jpeg.h"

#include <algorithm>
#include <vector>
// jpeglib.h needs FILE, jerror.h needs jpeglib.h.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "absl/strings/str_cat.h"
#include "pipeline/base/memory_guard.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/cpu_budget.h"
#include "pipeline/image/exif_orientation.h"
#include "pipeline/image/longjmp_guard.h"
#include "pipeline/image/metadata.h"
#include "pipeline/image/pixel_math.h"

namespace image_variations {
namespace {

constexpr int kFullChromaQuality = 90;
constexpr size_t kLeastOutputBytes = 2 << 10;
constexpr size_t kFirstOutputBytes = 64 << 10;  // at most

absl::Status StatusOf(j_common_ptr jpeg) {
  char text[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, text);
  switch (jpeg->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
      return OutOfMemoryError();
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_NOTIMPL:
      return absl::UnimplementedError(absl::StrCat("JPEG is not decoded: ", text));
    default:
      return absl::InvalidArgumentError(absl::StrCat("JPEG is damaged: ", text));
  }
}

[[noreturn]] void OnError(j_common_ptr jpeg) {
  auto* guard = static_cast<LongjmpGuard*>(jpeg->client_data);
  guard->Fail(StatusOf(jpeg));
}

bool IsHarmlessWarning(int code) {
  return code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM ||
         code == JWRN_NOT_SEQUENTIAL;
}

void OnMessage(j_common_ptr jpeg, int level) {
  const bool is_warning = level < 0;
  if (is_warning && !IsHarmlessWarning(jpeg->err->msg_code)) OnError(jpeg);
}

jpeg_error_mgr MakeErrorManager() {
  jpeg_error_mgr errors{};
  jpeg_std_error(&errors);
  errors.error_exit = OnError;
  errors.emit_message = OnMessage;
  errors.output_message = [](j_common_ptr) {};
  return errors;
}

// What libjpeg asks at every row, and at every row of blocks of every scan. `base` first: libjpeg
// hands back a pointer to it.
struct BudgetMonitor {
  jpeg_progress_mgr base{};
  CpuBudget budget;

  explicit BudgetMonitor(absl::Duration max_cpu) : budget(max_cpu) {
    base.progress_monitor = [](j_common_ptr jpeg) {
      CpuBudget& left = reinterpret_cast<BudgetMonitor*>(jpeg->progress)->budget;
      if (left.IsUsedUp()) static_cast<LongjmpGuard*>(jpeg->client_data)->Fail(left.Refusal());
    };
  }
};

class Decompressor {
 public:
  explicit Decompressor(absl::Duration max_cpu) : monitor_(max_cpu) {
    jpeg_.err = &errors_;
    jpeg_.client_data = &guard_;
  }
  ~Decompressor() { jpeg_destroy_decompress(&jpeg_); }
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  absl::Status Start(absl::string_view bytes, int64_t max_working_bytes) {
    return guard_.Run([&] {
      jpeg_create_decompress(&jpeg_);
      jpeg_.progress = &monitor_.base;
      jpeg_.mem->max_memory_to_use = static_cast<long>(max_working_bytes);
      jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
      jpeg_read_header(&jpeg_, TRUE);
      jpeg_.out_color_space = jpeg_.num_components == 4 ? JCS_CMYK : JCS_RGB;
      // Smooth interpolation is for chroma; where colours are stored as they are, pixels repeat.
      if (jpeg_.jpeg_color_space == JCS_RGB) jpeg_.do_fancy_upsampling = FALSE;
      jpeg_start_decompress(&jpeg_);
    });
  }

  absl::Status ReadRow(uint8_t* row) {
    return guard_.Run([&] { jpeg_read_scanlines(&jpeg_, &row, 1); });
  }

  // Reads up to the end-of-image marker.
  absl::Status Finish() {
    return guard_.Run([&] { jpeg_finish_decompress(&jpeg_); });
  }

  int width() const { return static_cast<int>(jpeg_.output_width); }
  int height() const { return static_cast<int>(jpeg_.output_height); }
  int channels() const { return jpeg_.output_components; }
  bool is_adobe() const { return jpeg_.saw_Adobe_marker; }

 private:
  jpeg_error_mgr errors_ = MakeErrorManager();
  LongjmpGuard guard_;
  BudgetMonitor monitor_;
  jpeg_decompress_struct jpeg_{};
};

// Four bytes per pixel become three, in place. Adobe's programs store 255 - ink.
void ConvertCmykRow(std::vector<uint8_t>& row, bool is_inverted) {
  const uint8_t flip = is_inverted ? 0 : 255;
  const auto light = [&](size_t at) { return static_cast<uint8_t>(row[at] ^ flip); };
  for (size_t pixel = 0; pixel < row.size() / 4; ++pixel) {
    const uint8_t black = light(4 * pixel + 3);
    for (size_t channel = 0; channel < 3; ++channel) {
      row[3 * pixel + channel] = MultiplyChannels(light(4 * pixel + channel), black);
    }
  }
}

// Where libjpeg writes. `base` first: libjpeg hands back a pointer to it.
struct StringDestination {
  jpeg_destination_mgr base{};
  std::string bytes;

  StringDestination() {
    base.init_destination = [](j_compress_ptr jpeg) {
      const size_t pixels = size_t{jpeg->image_width} * jpeg->image_height;
      Of(jpeg)->Grow(0, std::clamp(pixels, kLeastOutputBytes, kFirstOutputBytes));
    };
    base.empty_output_buffer = [](j_compress_ptr jpeg) -> boolean {
      const size_t full = Of(jpeg)->bytes.size();
      Of(jpeg)->Grow(full, 2 * full);
      return TRUE;
    };
    base.term_destination = [](j_compress_ptr jpeg) {
      Of(jpeg)->bytes.resize(Of(jpeg)->bytes.size() - jpeg->dest->free_in_buffer);
    };
  }

  static StringDestination* Of(j_compress_ptr jpeg) {
    return reinterpret_cast<StringDestination*>(jpeg->dest);
  }

  void Grow(size_t used, size_t size) {
    bytes.resize(size);
    base.next_output_byte = reinterpret_cast<JOCTET*>(bytes.data()) + used;
    base.free_in_buffer = size - used;
  }
};

class Compressor {
 public:
  Compressor() {
    jpeg_.err = &errors_;
    jpeg_.client_data = &guard_;
  }
  ~Compressor() { jpeg_destroy_compress(&jpeg_); }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  absl::Status Start(const Image& image, const EncodeOptions& options) {
    return guard_.Run([&] {
      jpeg_create_compress(&jpeg_);
      jpeg_.dest = &destination_.base;
      jpeg_.image_width = static_cast<JDIMENSION>(image.width);
      jpeg_.image_height = static_cast<JDIMENSION>(image.height);
      jpeg_.input_components = 3;
      jpeg_.in_color_space = JCS_RGB;
      jpeg_set_defaults(&jpeg_);
      jpeg_set_quality(&jpeg_, options.jpeg_quality, TRUE);
      jpeg_.optimize_coding = options.is_quick ? FALSE : TRUE;
      if (options.jpeg_quality >= kFullChromaQuality) {
        jpeg_.comp_info[0].h_samp_factor = 1;
        jpeg_.comp_info[0].v_samp_factor = 1;
      }
      jpeg_start_compress(&jpeg_, TRUE);
    });
  }

  absl::Status WriteApp1(absl::string_view content) {
    return guard_.Run([&] {
      jpeg_write_marker(&jpeg_, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(content.data()),
                        static_cast<unsigned>(content.size()));
    });
  }

  absl::Status WriteRows(const Image& image) {
    return guard_.Run([&] {
      while (jpeg_.next_scanline < jpeg_.image_height) {
        // libjpeg's type is not const; it only reads.
        auto* row = const_cast<uint8_t*>(image.rgb.data()) +
                    size_t{3} * jpeg_.image_width * jpeg_.next_scanline;
        jpeg_write_scanlines(&jpeg_, &row, 1);
      }
      jpeg_finish_compress(&jpeg_);
    });
  }

  std::string TakeBytes() { return std::move(destination_.bytes); }

 private:
  jpeg_error_mgr errors_ = MakeErrorManager();
  LongjmpGuard guard_;
  StringDestination destination_;
  jpeg_compress_struct jpeg_{};
};

}  // namespace

absl::StatusOr<Image> DecodeJpeg(absl::string_view bytes, const StoredHeader& header,
                                 absl::Duration max_cpu) {
  Decompressor jpeg(max_cpu);
  RETURN_IF_ERROR(jpeg.Start(bytes, header.working_bytes));
  if (jpeg.width() != header.width || jpeg.height() != header.height) {
    return absl::InvalidArgumentError("JPEG is damaged: its size is ambiguous");
  }
  UprightImage upright(header);
  std::vector<uint8_t> row(static_cast<size_t>(jpeg.width()) *
                           static_cast<size_t>(jpeg.channels()));
  for (int y = 0; y < header.height; ++y) {
    RETURN_IF_ERROR(jpeg.ReadRow(row.data()));
    if (jpeg.channels() == 4) ConvertCmykRow(row, jpeg.is_adobe());
    upright.PutRow(y, row.data());
  }
  RETURN_IF_ERROR(jpeg.Finish());
  return std::move(upright).Take();
}

absl::StatusOr<std::string> EncodeJpeg(const Image& image, const EncodeOptions& options) {
  if (options.jpeg_quality < 1 || options.jpeg_quality > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("JPEG quality is ", options.jpeg_quality, ", must be 1 to 100"));
  }
  if (std::max(image.width, image.height) > JPEG_MAX_DIMENSION) {
    return absl::OutOfRangeError(absl::StrCat("image is ", image.width, "x", image.height,
                                              ", JPEG's limit is ", JPEG_MAX_DIMENSION,
                                              " pixels per side"));
  }
  Compressor jpeg;
  RETURN_IF_ERROR(jpeg.Start(image, options));
  if (options.parameters) {
    ASSIGN_OR_RETURN(const std::string exif, MakeExifApp1(*options.parameters));
    RETURN_IF_ERROR(jpeg.WriteApp1(exif));
    RETURN_IF_ERROR(jpeg.WriteApp1(MakeXmpApp1()));
  }
  RETURN_IF_ERROR(jpeg.WriteRows(image));
  return jpeg.TakeBytes();
}

}  // namespace image_variations
