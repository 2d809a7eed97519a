#include "server/preview_pictures.h"

#include <string>

#include "pipeline/base/status_macros.h"
#include "pipeline/image/codec.h"

namespace image_variations {

namespace v1 = imagevariations::v1;

absl::StatusOr<v1::Preview> EncodePreview(const PreviewPicture& shown) {
  const EncodeOptions options{
      .format = ImageFormat::kJpeg, .jpeg_quality = 80, .is_quick = true, .parameters = {}};
  ASSIGN_OR_RETURN(std::string bytes, EncodeChecked(*shown.picture, options));
  v1::Preview preview;
  preview.set_index(shown.index);
  preview.set_step(shown.step);
  preview.set_mime_type(std::string(MimeType(ImageFormat::kJpeg)));
  preview.set_image(std::move(bytes));
  return preview;
}

}  // namespace image_variations
