#pragma once

#include <vector>

#include "client/cli/contact_sheet.h"
#include "client/cli/picture_result.h"

namespace image_variations::client {

// The source and its variations as cells. What cannot be shown becomes a placeholder that says why.
std::vector<SheetCell> MakeSheetRow(const PictureResult&);

}  // namespace image_variations::client
