#include "pipeline/checkpoint/hub_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr char kCommit[] = "a2a13984e57db80adcc9e3f85d568dcccb9b29fc";
constexpr char kOtherCommit[] = "fffa950000000000000000000000000000000000";
const fs::path kRepository = "models--acme--cat.variations-v2";

TEST(HubReference, IsARepositoryAndPerhapsARevision) {
  const struct {
    const char *text, *repository, *revision;
  } references[] = {
      {"acme/cats", "acme/cats", "main"},
      {"acme/cat.variations-v2@v2.0", "acme/cat.variations-v2", "v2.0"},
      {"acme/cats@refs/pr/1", "acme/cats", "refs/pr/1"},
      {"acme/cats@2ddbd90b14bc5892c19925b15185e561bc8e5d0a", "acme/cats",
       "2ddbd90b14bc5892c19925b15185e561bc8e5d0a"},
  };
  for (const auto& [text, repository, revision] : references) {
    const auto reference = HubReference::Parse(text);
    ASSERT_TRUE(reference.has_value()) << text;
    EXPECT_EQ(reference->repository, repository);
    EXPECT_EQ(reference->revision, revision);
  }
}

TEST(HubReference, IsNothingThatCouldLeaveTheCache) {
  for (const char* text : {"", "cats", "acme/", "/cats", "a/b/c", "../cats", "acme/..", "./cats",
                           "acme/cats@", "acme/cats@../../x", "acme/cats@/etc", "acme/cats@a//b",
                           "acme/c--ats", "acme/c ats", "acme/cats@v\n", "-x/cats"}) {
    EXPECT_FALSE(HubReference::Parse(text).has_value()) << text;
  }
}

TEST(HubReference, TellsTheCommandThatDownloadsIt) {
  EXPECT_EQ(HubReference::Parse("acme/cats")->DownloadCommand(), "hf download acme/cats");
  EXPECT_EQ(HubReference::Parse("acme/cats@v2.0")->DownloadCommand(),
            "hf download acme/cats --revision v2.0");
}

class HubCacheTest : public testing::Test {
 protected:
  HubCacheTest() {
    folder_.Write(kRepository / "refs/main", kCommit);
    folder_.Write(kRepository / "refs/v2.0", absl::StrCat(kCommit, "\n"));
    folder_.Write(kRepository / "refs/refs/pr/1", kCommit);
    fs::create_directories(snapshot());
  }

  fs::path snapshot() const { return folder_.path() / kRepository / "snapshots" / kCommit; }
  absl::StatusOr<HubSnapshot> Find(absl::string_view reference) const {
    return FindSnapshot(folder_.path().string(), *HubReference::Parse(reference));
  }
  std::string FindMessage(absl::string_view reference) const {
    return std::string(Find(reference).status().message());
  }

  TemporaryFolder folder_;
};

TEST_F(HubCacheTest, FindsBranchesTagsPullRequestsAndCommits) {
  for (const char* revision :
       {"", "@main", "@v2.0", "@refs/pr/1", "@a2a13984e57db80adcc9e3f85d568dcccb9b29fc"}) {
    const auto found = Find(absl::StrCat("acme/cat.variations-v2", revision));
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->folder, snapshot().string());
    EXPECT_EQ(found->commit, kCommit);
  }
}

TEST_F(HubCacheTest, TellsTheCommandForAnAbsentRepositoryRevisionOrSnapshot) {
  EXPECT_THAT(FindMessage("acme/dogs@v1"), AllOf(HasSubstr("nor in the Hugging Face cache"),
                                                 HasSubstr("hf download acme/dogs --revision v1")));
  EXPECT_THAT(FindMessage("acme/cat.variations-v2@v3"),
              AllOf(HasSubstr("refs/v3: no such file"),
                    HasSubstr("hf download acme/cat.variations-v2 --revision v3")));
  EXPECT_THAT(
      FindMessage(absl::StrCat("acme/cat.variations-v2@", kOtherCommit)),
      AllOf(HasSubstr("snapshots/fffa95"), HasSubstr("no such folder"), HasSubstr("hf download")));
  EXPECT_EQ(Find("acme/dogs").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(HubCacheTest, RefusesARefThatIsNoCommitOrLeadsInACircle) {
  folder_.Write(kRepository / "refs/broken", "../../../etc");
  EXPECT_THAT(FindMessage("acme/cat.variations-v2@broken"), HasSubstr("refs/broken: not a commit"));
  fs::create_symlink("circle", folder_.path() / kRepository / "refs/circle");
  EXPECT_THAT(FindMessage("acme/cat.variations-v2@circle"), HasSubstr("a loop of symbolic links"));
}

TEST_F(HubCacheTest, RefusesASnapshotFolderThatLeadsInACircle) {
  fs::remove(snapshot());
  fs::create_directory_symlink(kCommit, snapshot());
  EXPECT_THAT(FindMessage("acme/cat.variations-v2"), HasSubstr("a loop of symbolic links"));
}

TEST_F(HubCacheTest, SaysThatADownloadWasInterrupted) {
  const HubSnapshot found = *Find("acme/cat.variations-v2@v2.0");
  EXPECT_EQ(
      HowToComplete(found),
      "this command fetches what is missing: hf download acme/cat.variations-v2 --revision v2.0");
  folder_.Write(kRepository / "blobs/0123.4567.incomplete", "half");
  EXPECT_THAT(HowToComplete(found), HasSubstr("a download into this cache was interrupted"));
}

}  // namespace
}  // namespace image_variations
