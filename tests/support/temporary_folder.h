// A folder that lives as long as the test.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/string_view.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path =
        (std::filesystem::temp_directory_path() / "image_variations.XXXXXX").string();
    IV_CHECK(mkdtemp(path.data()) != nullptr);
    path_ = path;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

  // Writes a file, with the folders above it, in place of what was there, which readers see whole
  // until they see the new one whole. Returns its path.
  std::string Write(const std::filesystem::path& name, absl::string_view bytes) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    const std::filesystem::path draft = file.string() + ".draft";
    std::ofstream(draft, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    std::filesystem::rename(draft, file);
    return file.string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace image_variations
