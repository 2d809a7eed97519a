#include "pipeline/base/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST(ListFolder, NamesFilesAndFoldersButNotItself) {
  const TemporaryFolder folder;
  folder.Write("a", "");
  folder.Write(".b/c", "");
  EXPECT_THAT(ListFolder(folder.path().string()), UnorderedElementsAre("a", ".b"));
}

TEST(ListFolder, OfWhatIsNoFolderIsEmpty) {
  const TemporaryFolder folder;
  EXPECT_THAT(ListFolder((folder.path() / "a").string()), IsEmpty());
}

TEST(RealPath, FollowsLinks) {
  const TemporaryFolder folder;
  const std::filesystem::path real = std::filesystem::canonical(folder.path());
  folder.Write("a", "");
  std::filesystem::create_symlink("a", folder.path() / "b");
  EXPECT_EQ(RealPath((folder.path() / "./b").string()), (real / "a").string());
  EXPECT_EQ(RealPath((folder.path() / "c").string()), "");
}

TEST(LastName, IsThatOfWhatThePathMeans) {
  EXPECT_EQ(LastName("a/b"), "b");
  EXPECT_EQ(LastName("a/b/"), "b");
  EXPECT_EQ(LastName("b"), "b");
  EXPECT_EQ(LastName("demo/model/."), "model");
  EXPECT_EQ(LastName("demo/model/.."), "demo");
  EXPECT_EQ(LastName("nowhere/.."), "");
}

}  // namespace
}  // namespace image_variations
