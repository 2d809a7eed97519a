// Folders, in place of those functions of std::filesystem in which want of memory ends the process;
// here it is std::bad_alloc.
#pragma once

#include <string>
#include <vector>

namespace image_variations {

// Names of all entries, without "." and "..", in no order; none when it cannot be read.
std::vector<std::string> ListFolder(const std::string& path);

// Absolute and without links; "" when nothing is there.
std::string RealPath(const std::string& path);

// What a path ends with; a trailing slash does not count. Of "." and "..", what they mean.
std::string LastName(const std::string& path);

}  // namespace image_variations
