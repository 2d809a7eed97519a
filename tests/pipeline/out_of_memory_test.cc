// Memory runs out at every allocation in turn, in what reads untrusted bytes: each time there is a
// status, and everything is given back.
#include <openssl/err.h>

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "pipeline/base/memory_guard.h"
#include "pipeline/base/sha256.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/image/codec.h"
#include "tests/pipeline/checkpoint/safetensors_bytes.h"
#include "tests/pipeline/image/test_pictures.h"
#include "tests/support/failing_malloc.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using absl::StatusCode;

// `read` gives OK when it has read what it always does.
void ExpectAStatusAtEveryAllocation(const std::function<absl::Status()>& read,
                                    StatusCode usual = StatusCode::kOk) {
  ASSERT_EQ(read().code(), usual);  // also makes what is made once
  int64_t fail_at = 1;
  while (true) {
    StatusCode code = StatusCode::kUnknown;
    const AllocationCounts counts = RunWithFailingMalloc(fail_at, [&] { code = read().code(); });
    if (!counts.failed) break;
    EXPECT_TRUE(code == StatusCode::kResourceExhausted || code == usual)
        << absl::StatusCodeToString(code) << " at allocation " << fail_at;
    EXPECT_EQ(counts.live, 0) << "lost at allocation " << fail_at;
    ++fail_at;
  }
  ::testing::Test::RecordProperty("allocations", static_cast<int>(fail_at - 1));
  EXPECT_GT(fail_at, 1) << "nothing was allocated";
}

void ExpectDecoding(const std::string& bytes, StatusCode usual = StatusCode::kOk) {
  const absl::StatusOr<Image> whole = DecodeImage(bytes, {});
  ExpectAStatusAtEveryAllocation(
      [&]() -> absl::Status {
        const absl::StatusOr<Image> image = DecodeImage(bytes, {});
        if (!image.ok()) return image.status();
        return *image == *whole ? absl::OkStatus() : absl::InternalError("another picture");
      },
      usual);
}

const std::vector<uint8_t> kGrayPixels(19 * 11, 77);

TEST(OutOfMemory, WhileDecodingAPlainPng) {
  ExpectDecoding(EncodeImage(MakeNoise(19, 11), {}).value());
}

TEST(OutOfMemory, WhileDecodingAnInterlacedPng) {
  ExpectDecoding(MakePng({.width = 19, .height = 11, .color = PngColor::kGray, .interlaced = true},
                         kGrayPixels));
}

TEST(OutOfMemory, WhileDecodingADamagedPng) {
  std::string bytes = EncodeImage(MakeNoise(19, 11), {}).value();
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  ExpectDecoding(bytes, StatusCode::kInvalidArgument);
}

TEST(OutOfMemory, WhileDecodingABaselineJpeg) {
  ExpectDecoding(EncodeImage(MakeNoise(19, 11), {.format = ImageFormat::kJpeg}).value());
}

TEST(OutOfMemory, WhileDecodingAProgressiveJpegThatIsTurned) {
  ExpectDecoding(MakeJpeg({.width = 19,
                           .height = 11,
                           .color = JpegColor::kGray,
                           .progressive = true,
                           .exif = MakeExif(6)},
                          kGrayPixels));
}

TEST(OutOfMemory, WhileDecodingADamagedJpeg) {
  std::string bytes = EncodeImage(MakeNoise(19, 11), {.format = ImageFormat::kJpeg}).value();
  bytes.resize(bytes.size() - 2);
  ExpectDecoding(bytes + std::string("\xFF\xC0\0\1\xFF\xD9", 6), StatusCode::kInvalidArgument);
}

TEST(OutOfMemory, PeekingAllocatesNothing) {
  for (const ImageFormat format : {ImageFormat::kPng, ImageFormat::kJpeg}) {
    const std::string bytes = EncodeImage(MakeNoise(19, 11), {.format = format}).value();
    const AllocationCounts counts =
        RunWithFailingMalloc(1, [&] { ASSERT_TRUE(PeekImage(bytes, {}).ok()); });
    EXPECT_EQ(counts.made, 0) << MimeType(format);
  }
}

TEST(OutOfMemory, WhilePeekingAtWhatIsRefused) {
  for (const ImageFormat format : {ImageFormat::kPng, ImageFormat::kJpeg}) {
    const std::string bytes = EncodeImage(MakeNoise(19, 11), {.format = format}).value();
    ExpectAStatusAtEveryAllocation([&] { return PeekImage(bytes, {.max_side = 10}).status(); },
                                   StatusCode::kOutOfRange);
    ExpectAStatusAtEveryAllocation(
        [&] { return PeekImage(absl::string_view(bytes).substr(0, 40), {}).status(); },
        StatusCode::kInvalidArgument);
  }
}

TEST(OutOfMemory, WhileEncoding) {
  for (const ImageFormat format : {ImageFormat::kPng, ImageFormat::kJpeg}) {
    const Image image = MakeNoise(19, 11);
    const EncodeOptions options{.format = format};
    const std::string whole = EncodeImage(image, options).value();
    ExpectAStatusAtEveryAllocation([&]() -> absl::Status {
      const absl::StatusOr<std::string> bytes = EncodeImage(image, options);
      if (!bytes.ok()) return bytes.status();
      return *bytes == whole ? absl::OkStatus() : absl::InternalError("other bytes");
    });
  }
}

TEST(OutOfMemory, WhileReadingACheckpoint) {
  const std::string path = "tests/fuzz/corpus/safetensors/two_tensors";
  ExpectAStatusAtEveryAllocation([&] { return SafetensorsFile::Open(path).status(); });
}

TEST(OutOfMemory, WhileReadingADamagedCheckpoint) {
  const TemporaryFolder folder;
  const std::string path =
      folder.Write("model.safetensors", SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[2)"));
  ExpectAStatusAtEveryAllocation([&] { return SafetensorsFile::Open(path).status(); },
                                 StatusCode::kInvalidArgument);
}

TEST(OutOfMemory, WhileSummingUp) {
  ERR_clear_error();  // makes what OpenSSL keeps for each thread
  ExpectAStatusAtEveryAllocation([] {
    return GuardMemory([] {
      return Sha256OfText("abc").size() == 64 ? absl::OkStatus() : absl::InternalError("no digest");
    });
  });
}

}  // namespace
}  // namespace image_variations
