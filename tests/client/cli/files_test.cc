#include "client/cli/files.h"

#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/temporary_folder.h"

namespace image_variations::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(VariationFileName, HasSourceIndexAndSeed) {
  EXPECT_EQ(VariationFileName("penguin", 0, 1, "image/png"), "penguin-0-seed1.png");
  EXPECT_EQ(VariationFileName("penguin", 3, -7, "image/jpeg"), "penguin-3-seed-7.jpg");
}

TEST(MakeStems, TakesFileNamesWithoutExtensionAndTellsEqualOnesApart) {
  EXPECT_THAT(MakeStems({"a/cat.png", "b/cat.jpg", "dog.tar.gz", "-", "/"}),
              ElementsAre("cat", "cat-2", "dog.tar", "stdin", "picture"));
}

TEST(MakeStems, ANumberedNameThatIsTakenIsSkipped) {
  EXPECT_THAT(MakeStems({"cat-2.png", "cat.png", "cat.jpg"}), ElementsAre("cat-2", "cat", "cat-3"));
}

TEST(ReadPicture, ReadsFilesAndStdin) {
  TemporaryFolder folder;
  std::istringstream in("from stdin");
  EXPECT_EQ(*ReadPicture(folder.Write("a.png", "from a file"), in), "from a file");
  EXPECT_EQ(*ReadPicture("-", in), "from stdin");
}

TEST(ReadPicture, AMissingFileAndAFolderAreErrors) {
  TemporaryFolder folder;
  std::istringstream in;
  EXPECT_EQ(ReadPicture(folder / "no.png", in).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(ReadPicture(folder.path(), in).status().message()),
              HasSubstr("Is a directory"));
}

TEST(WriteResult, WritesANewFileAndLeavesNothingElse) {
  TemporaryFolder folder;
  EXPECT_EQ(WriteResult(folder / "a.png", "bytes", Existing::kKeep)->path, folder / "a.png");
  EXPECT_EQ(folder.Read("a.png"), "bytes");
  EXPECT_FALSE(folder.Has("a.png.part"));
}

TEST(WriteResult, AFileOfTheSameContentIsTheResult) {
  TemporaryFolder folder;
  folder.Write("a.png", "bytes");
  const auto written = WriteResult(folder / "a.png", "bytes", Existing::kKeep);
  EXPECT_EQ(written->path, folder / "a.png");
  EXPECT_EQ(written->note, "");
}

TEST(WriteResult, AnotherFileIsKeptAndTheResultGetsTheNextFreeName) {
  TemporaryFolder folder;
  folder.Write("a.png", "mine");
  folder.Write("a-2.png", "mine too");
  const auto written = WriteResult(folder / "a.png", "bytes", Existing::kKeep);
  EXPECT_EQ(written->path, folder / "a-3.png");
  EXPECT_THAT(written->note, HasSubstr("is kept"));
  EXPECT_EQ(folder.Read("a.png"), "mine");
  EXPECT_EQ(folder.Read("a-3.png"), "bytes");
}

TEST(WriteResult, ReplacingIsSaid) {
  TemporaryFolder folder;
  folder.Write("a.png", "mine");
  const auto written = WriteResult(folder / "a.png", "bytes", Existing::kReplace);
  EXPECT_EQ(written->note, "replaced " + (folder / "a.png"));
  EXPECT_EQ(folder.Read("a.png"), "bytes");
}

TEST(WriteResult, AFolderThatIsMissingIsAnErrorThatNamesThePath) {
  TemporaryFolder folder;
  const auto written = WriteResult(folder / "no/a.png", "bytes", Existing::kKeep);
  EXPECT_EQ(written.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(written.status().message()), HasSubstr(folder / "no/a.png"));
}

}  // namespace
}  // namespace image_variations::client
