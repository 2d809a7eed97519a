// A copy of the bundled model whose files a test may replace.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_replace.h"
#include "pipeline/checkpoint/model_dir.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {

inline constexpr char kBundled[] = "demo/model";

inline const char* const kFiles[] = {
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
};

inline std::string ReadBundled(const std::filesystem::path& name) {
  std::ostringstream text;
  text << std::ifstream(kBundled / name, std::ios::binary).rdbuf();
  return text.str();
}

// Of links.
class ModelDirTest : public testing::Test {
 protected:
  ModelDirTest() { LinkBundled("model"); }

  void LinkBundled(const std::filesystem::path& folder) {
    for (const char* file : kFiles) {
      const std::filesystem::path link = folder_.path() / folder / file;
      std::filesystem::create_directories(link.parent_path());
      std::filesystem::create_symlink(std::filesystem::absolute(kBundled) / file, link);
    }
  }

  std::string model() const { return (folder_.path() / "model").string(); }
  void Write(const std::filesystem::path& name, absl::string_view bytes) {
    folder_.Write("model" / name, bytes);
  }
  void Remove(const std::filesystem::path& name) {
    std::filesystem::remove(folder_.path() / "model" / name);
  }
  // Replaces text in a file; it must be there.
  void Edit(const std::filesystem::path& name, absl::string_view from, absl::string_view to) {
    const std::string text = ReadBundled(name);
    ASSERT_THAT(text, testing::HasSubstr(std::string(from))) << name;
    Write(name, absl::StrReplaceAll(text, {{from, to}}));
  }
  absl::Status Open() { return ModelDir::Open(model()).status(); }
  std::string OpenMessage() { return std::string(Open().message()); }

  TemporaryFolder folder_;
};

}  // namespace image_variations
