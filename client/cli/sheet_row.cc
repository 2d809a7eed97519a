#include "client/cli/sheet_row.h"

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/files.h"
#include "pipeline/image/codec.h"

namespace image_variations::client {
namespace {

std::optional<Image> Decode(const std::string& bytes) {
  auto image = DecodeImage(bytes, {.max_bytes = kMaxPictureBytes});
  if (!image.ok()) return std::nullopt;
  return *std::move(image);
}

SheetCell MakeSourceCell(const PictureResult& picture) {
  return {.picture = Decode(picture.source),
          .placeholder = "no preview",
          .title = picture.picture == "-" ? "stdin"
                                          : picture.picture.substr(picture.picture.rfind('/') + 1),
          .subtitle = "source"};
}

SheetCell MakeVariationCell(const Variation& variation) {
  SheetCell cell{.picture = {}, .placeholder = {}, .title = {}, .subtitle = {}};
  cell.title = absl::StrCat("seed ", variation.seed);
  switch (variation.outcome) {
    case Outcome::kGenerated:
      cell.picture = Decode(variation.image);
      cell.placeholder = "no preview";
      if (variation.similarity) {
        cell.subtitle = absl::StrFormat("similarity %.3f", *variation.similarity);
      }
      break;
    case Outcome::kFiltered:
      cell.placeholder = "blocked by\nthe safety\nchecker";
      break;
    case Outcome::kFailed:
      cell.placeholder = "failed";
      break;
  }
  return cell;
}

}  // namespace

std::vector<SheetCell> MakeSheetRow(const PictureResult& picture) {
  std::vector<SheetCell> cells = {MakeSourceCell(picture)};
  for (const Variation& variation : picture.result.variations) {
    cells.push_back(MakeVariationCell(variation));
  }
  return cells;
}

}  // namespace image_variations::client
