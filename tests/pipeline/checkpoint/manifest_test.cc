#include "pipeline/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kSum(64, 'a');
const std::string kOtherSum(64, 'b');

absl::StatusOr<Manifest> ReadText(absl::string_view text) {
  const TemporaryFolder folder;
  folder.Write("manifest.json", text);
  return Manifest::Read(folder.path().string());
}

TEST(Manifest, AcceptsEverythingWhereThereIsNone) {
  const TemporaryFolder folder;
  const auto manifest = Manifest::Read(folder.path().string());
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_TRUE(manifest->Check("unet/config.json", kSum).ok());
}

TEST(Manifest, AcceptsTheFileThatItLists) {
  const auto manifest = ReadText(absl::StrCat(R"({"unet/config.json": ")", kSum, "\"}"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_TRUE(manifest->Check("unet/config.json", kSum).ok());
}

TEST(Manifest, NamesFileExpectedAndActualSum) {
  const auto manifest = ReadText(absl::StrCat(R"({"unet/config.json": ")", kSum, "\"}"));
  EXPECT_THAT(std::string(manifest->Check("unet/config.json", kOtherSum).message()),
              HasSubstr(absl::StrCat("manifest.json: unet/config.json has sha256 ", kSum,
                                     ", the file has ", kOtherSum)));
}

TEST(Manifest, RefusesAFileThatItDoesNotList) {
  EXPECT_THAT(std::string(ReadText("{}")->Check("vae/config.json", kSum).message()),
              HasSubstr("vae/config.json is not listed"));
}

TEST(Manifest, RefusesToBeAnythingButAMapOfSums) {
  for (const char* text : {"", "[]", R"({"a": 1})", R"({"a": "abc"})", R"({"a": null})"}) {
    const absl::Status status = ReadText(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("manifest.json")) << text;
  }
}

}  // namespace
}  // namespace image_variations
