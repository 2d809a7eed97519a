#include "server/decode_sandbox.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/pipeline/image/test_pictures.h"

namespace image_variations {
namespace {

using ::testing::HasSubstr;

// Plays a decoder that a picture has taken over: does what the picture's width says.
enum Deed { kDecode = 8, kCrash, kOpenFile, kOpenSocket, kStartProcess, kRunForEver, kTakeMemory };

absl::StatusOr<Image> TakenOver(absl::string_view bytes, const DecodeLimits& limits) {
  std::vector<char*> taken;
  switch (PeekImage(bytes, limits)->width) {
    case kCrash:
      std::abort();
    case kOpenFile:
      open("/etc/passwd", O_RDONLY);
      break;
    case kOpenSocket:
      socket(AF_INET, SOCK_STREAM, 0);
      break;
    case kStartProcess:
      if (fork() == 0) _exit(0);
      break;
    case kRunForEver:
      for (std::atomic<int> turns = 0;; ++turns) {
      }
    case kTakeMemory:
      for (size_t size = 0; size < size_t{256} << 20; size += 1 << 20) {
        char* const block = static_cast<char*>(std::malloc(1 << 20));
        if (block == nullptr) return absl::ResourceExhaustedError("no more");
        block[0] = 1;
        taken.push_back(block);
      }
      break;
    default:
      break;
  }
  return DecodeImage(bytes, limits);
}

std::string PictureFor(Deed deed) { return EncodeImage(MakeNoise(deed, 8), {}).value(); }

TEST(DecodeSandbox, HasTheSamePixelsAndTheSameErrors) {
  const auto sandbox = DecodeSandbox::Start().value();
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus/decode")) {
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    const std::string bytes = text.str();
    const absl::StatusOr<Image> wanted = DecodeImage(bytes, {});
    const absl::StatusOr<Image> image = sandbox->Decode(bytes, {});
    EXPECT_EQ(image.status(), wanted.status()) << entry.path();
    if (wanted.ok() && image.ok()) {
      EXPECT_TRUE(*image == *wanted) << entry.path();
    }
    ++files;
  }
  EXPECT_GT(files, 50);
}

TEST(DecodeSandbox, TakesTheLargestPicture) {
  const auto sandbox = DecodeSandbox::Start().value();
  const std::string bytes =
      EncodeImage({7'000, 7'000, std::vector<uint8_t>(3 * 7'000 * 7'000, 9)}, {}).value();
  EXPECT_EQ(sandbox->Decode(bytes, {})->width, 7'000);
}

class TakenOverDecoder : public ::testing::TestWithParam<Deed> {};

TEST_P(TakenOverDecoder, CostsItsOwnPictureAlone) {
  const auto sandbox = DecodeSandbox::Start(TakenOver).value();
  const absl::Status status = sandbox->Decode(PictureFor(GetParam()), {}).status();
  if (GetParam() == kTakeMemory) {
    EXPECT_EQ(status.message(), "no more");
  } else {
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("ended without an answer"));
  }
  EXPECT_TRUE(sandbox->Decode(PictureFor(kDecode), {}).ok());
}

INSTANTIATE_TEST_SUITE_P(Every, TakenOverDecoder,
                         ::testing::Values(kCrash, kOpenFile, kOpenSocket, kStartProcess,
                                           kRunForEver, kTakeMemory));

TEST(DecodeSandbox, DecodesForSeveralThreadsAtATime) {
  const auto sandbox = DecodeSandbox::Start(TakenOver).value();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&sandbox, i] {
      for (int turn = 0; turn < 10; ++turn) {
        const bool crashes = (i + turn) % 3 == 0;
        EXPECT_EQ(sandbox->Decode(PictureFor(crashes ? kCrash : kDecode), {}).ok(), !crashes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace image_variations
