// The command-line program against the real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "pipeline/image/codec.h"
#include "tests/support/temporary_folder.h"
#include "tests/system/programs.h"

namespace image_variations {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Cli : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ServerProcess; }
  static void TearDownTestSuite() { delete std::exchange(server_, nullptr); }

  Finished Run(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.end(), {"--server", server_->address()});
    return RunCli(arguments, input);
  }
  std::filesystem::path out() const { return folder_.path() / "out"; }

  static inline ServerProcess* server_ = nullptr;
  TemporaryFolder folder_;
};

TEST_F(Cli, VaryWritesThePicturesAndTheContactSheet) {
  const Finished run = Run({"vary", kPictures / "penguin.png", "-n", "2", "--seed", "1", "--steps",
                            "4", "--sampler", "ddim", "-o", out()});
  ASSERT_EQ(run.exit_code, 0) << run.errors;
  EXPECT_TRUE(std::filesystem::exists(out() / "penguin-0-seed1.png"));
  EXPECT_TRUE(std::filesystem::exists(out() / "penguin-1-seed2.png"));
  const auto sheet = DecodeImage(ReadFile(out() / "contact-sheet.png"), {});
  ASSERT_TRUE(sheet.ok()) << sheet.status();
  EXPECT_GT(sheet->width, 3 * sheet->height / 2);  // the source and two variations, side by side
}

TEST_F(Cli, VaryShowsPreviewsOfAServerWithoutSafetyChecker) {
  const ServerProcess unchecked({"--safety", "off"});
  const Finished run = RunCli({"vary", kPictures / "penguin.png", "--seed", "1", "--steps", "12",
                               "--sampler", "ddim", "-o", out(), "--previews", out() / "previews",
                               "--server", unchecked.address()});
  ASSERT_EQ(run.exit_code, 0) << run.errors;
  const auto preview = DecodeImage(ReadFile(out() / "previews" / "penguin-0-step5.jpg"), {});
  ASSERT_TRUE(preview.ok()) << preview.status();
  EXPECT_EQ(preview->width, 16);
  const Finished refused =
      Run({"vary", kPictures / "penguin.png", "-o", out(), "--previews", out()});
  EXPECT_THAT(refused.errors, HasSubstr("safety"));
}

TEST_F(Cli, VaryTellsScriptsEverythingAsJson) {
  const Finished run = Run({"vary", kPictures / "penguin.png", "-n", "2", "--seed", "1", "--steps",
                            "4", "--json", "-o", out()});
  ASSERT_EQ(run.exit_code, 0) << run.errors;
  EXPECT_TRUE(nlohmann::json::accept(run.output)) << run.output;
  EXPECT_THAT(run.output, AllOf(HasSubstr("penguin-0-seed1.png"), HasSubstr("similarity")));
}

TEST_F(Cli, VaryReadsStdinAndWritesStdout) {
  const Finished run = Run({"vary", "-", "--seed", "1", "--steps", "2", "-o", "-"},
                           ReadFile(kPictures / "penguin.png"));
  ASSERT_EQ(run.exit_code, 0) << run.errors;
  const auto picture = DecodeImage(run.output, {});
  ASSERT_TRUE(picture.ok()) << picture.status();
  EXPECT_EQ(picture->width, 64);
}

TEST_F(Cli, OneUnreadablePictureDoesNotStopTheOthers) {
  const Finished run = Run({"vary", folder_.path() / "nowhere.png", kPictures / "penguin.png",
                            "--seed", "1", "--steps", "2", "-o", out()});
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.errors, HasSubstr("nowhere.png"));
  EXPECT_TRUE(std::filesystem::exists(out() / "penguin-0-seed1.png"));
}

TEST_F(Cli, HealthAndInfo) {
  EXPECT_EQ(Run({"health"}).exit_code, 0);
  const Finished info = Run({"info"});
  ASSERT_EQ(info.exit_code, 0) << info.errors;
  EXPECT_THAT(info.output, AllOf(HasSubstr("dpmpp-2m"), HasSubstr("cpu")));
}

TEST(CliWithoutServer, SaysWhereItLooked) {
  const Finished run = RunCli({"health", "--server", "127.0.0.1:1"});
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.errors, HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace image_variations
