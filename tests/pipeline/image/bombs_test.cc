// Small files that want much: what they take of time and memory before they are refused, or
// although they are taken.
#include <zlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/image/byte_order.h"
#include "pipeline/image/codec.h"
#include "tests/pipeline/image/test_pictures.h"
#include "tests/support/cpu_time.h"
#include "tests/support/failing_malloc.h"

namespace image_variations {
namespace {

constexpr absl::Duration kMaxTime = absl::Milliseconds(20);
constexpr int64_t kMaxBytes = 16 << 20;

std::string DeflateZeros(int64_t count) {
  z_stream stream{};
  IV_CHECK(deflateInit(&stream, 9) == Z_OK);
  std::vector<uint8_t> block(1 << 20), out(1 << 20);
  std::string bytes;
  while (count > 0) {
    const auto part = std::min<int64_t>(count, static_cast<int64_t>(block.size()));
    count -= part;
    stream.next_in = block.data();
    stream.avail_in = static_cast<uInt>(part);
    do {
      stream.next_out = out.data();
      stream.avail_out = static_cast<uInt>(out.size());
      deflate(&stream, count == 0 ? Z_FINISH : Z_NO_FLUSH);
      bytes.append(reinterpret_cast<char*>(out.data()), out.size() - stream.avail_out);
    } while (stream.avail_out == 0);
  }
  deflateEnd(&stream);
  return bytes;
}

// A whole PNG of zeros. Only as many of its bytes are made as a decoder would read that goes wrong.
std::string ZeroPng(int width, int height, PngColor color, int bit_depth,
                    const std::string& ancillary = "") {
  constexpr int kChannels[] = {1, 0, 3, 1, 2, 0, 4};
  std::string header;
  AppendBigEndian(header, static_cast<uint32_t>(width), 4);
  AppendBigEndian(header, static_cast<uint32_t>(height), 4);
  header += {static_cast<char>(bit_depth), static_cast<char>(color), 0, 0, 0};
  const int64_t row = 1 + (int64_t{width} * bit_depth * kChannels[static_cast<int>(color)] + 7) / 8;
  return "\x89PNG\r\n\x1A\n" + MakePngChunk("IHDR", header) + ancillary +
         MakePngChunk("IDAT", DeflateZeros(row * height)) + MakePngChunk("IEND", "");
}

// A progressive JPEG of one shade whose last scan comes `more` times again.
std::string JpegWithScans(int side, int more) {
  std::string bytes =
      MakeJpeg({.width = side, .height = side, .color = JpegColor::kGray, .progressive = true},
               std::vector<uint8_t>(static_cast<size_t>(side) * static_cast<size_t>(side), 99));
  const size_t last = bytes.rfind("\xFF\xDA");
  const std::string scan = bytes.substr(last, bytes.size() - 2 - last);
  std::string scans;
  for (int i = 0; i < more; ++i) scans += scan;
  return bytes.insert(bytes.size() - 2, scans);
}

struct Cost {
  absl::Duration time = absl::InfiniteDuration();  // of the processor
  int64_t most_bytes = 0;                          // allocated at one time
  absl::StatusCode code = absl::StatusCode::kUnknown;
};

// Time is the least of three: other programs use the caches, too.
Cost CostOfDecoding(const std::string& bytes) {
  Cost cost;
  for (int i = 0; i < 3; ++i) {
    const absl::Duration begin = ThreadCpuTime();
    const AllocationCounts counts =
        RunWithFailingMalloc(0, [&] { cost.code = DecodeImage(bytes, {}).status().code(); });
    cost.time = std::min(cost.time, ThreadCpuTime() - begin);
    cost.most_bytes = counts.most_bytes;
  }
  ::testing::Test::RecordProperty("encoded_bytes", static_cast<int>(bytes.size()));
  ::testing::Test::RecordProperty("microseconds",
                                  static_cast<int>(cost.time / absl::Microseconds(1)));
  ::testing::Test::RecordProperty("bytes", static_cast<int>(cost.most_bytes));
  return cost;
}

void ExpectCheap(const Cost& cost, absl::StatusCode code) {
  EXPECT_EQ(cost.code, code);
  EXPECT_LE(cost.time, kMaxTime);
  EXPECT_LE(cost.most_bytes, kMaxBytes);
}

void ExpectRefused(const std::string& bomb) {
  ExpectCheap(CostOfDecoding(bomb), absl::StatusCode::kOutOfRange);
}

TEST(Bombs, APngOf400MillionPixelsOfOneBit) {
  ExpectRefused(ZeroPng(20'000, 20'000, PngColor::kGray, 1));
}

TEST(Bombs, APngOf576Megabytes) { ExpectRefused(ZeroPng(12'000, 12'000, PngColor::kRgba, 8)); }

TEST(Bombs, APngOf16BitsWhosePixelsAloneWouldDo) {
  ExpectRefused(ZeroPng(7'000, 7'000, PngColor::kRgba, 16));
}

TEST(Bombs, AProgressiveJpegWith100ScansMore) { ExpectRefused(JpegWithScans(6'000, 100)); }

TEST(Bombs, AProgressiveJpegWith1000ScansMore) { ExpectRefused(JpegWithScans(6'000, 1'000)); }

// What decoders keep beside pixels is never unpacked here: these pictures are as cheap as without.
TEST(Bombs, ChunksThatUnpackTo268MegabytesCostNothing) {
  const std::string packed = DeflateZeros(1 << 28);
  for (const auto& [type, head] : {std::pair("iCCP", std::string("profile\0\0", 9)),
                                   std::pair("zTXt", std::string("Comment\0\0", 9)),
                                   std::pair("iTXt", std::string("Comment\0\1\0\0\0", 12))}) {
    const std::string chunk = MakePngChunk(type, head + packed);
    ExpectCheap(CostOfDecoding(ZeroPng(64, 64, PngColor::kRgb, 8, chunk)), absl::StatusCode::kOk);
  }
}

TEST(Bombs, TwentyThousandTextChunksCostNothing) {
  std::string chunks;
  for (int i = 0; i < 20'000; ++i) chunks += MakePngChunk("tEXt", std::string("Comment\0x", 9));
  ExpectCheap(CostOfDecoding(ZeroPng(64, 64, PngColor::kRgb, 8, chunks)), absl::StatusCode::kOk);
}

TEST(Bombs, TwentyThousandJpegSegmentsCostsNothing) {
  std::string bytes = EncodeImage(MakeNoise(64, 64), {.format = ImageFormat::kJpeg}).value();
  const std::string app1(
      "\xFF\xE1\0\x08"
      "Exif\0\0",
      10);
  std::string segments;
  for (int i = 0; i < 20'000; ++i) segments += app1;
  ExpectCheap(CostOfDecoding(bytes.insert(2, segments)), absl::StatusCode::kOk);
}

// Of 64 rows, or of rows of blocks in scans.
TEST(Bombs, PicturesEndWhenTheirProcessorTimeIsUsedUp) {
  const DecodeLimits no_time{.max_cpu = absl::ZeroDuration()};
  const std::string jpeg = EncodeImage(MakeNoise(64, 64), {.format = ImageFormat::kJpeg}).value();
  for (const std::string& bytes : {EncodeImage(MakeNoise(64, 64), {}).value(), jpeg,
                                   ZeroPng(64, 64, PngColor::kRgb, 8), JpegWithScans(512, 0)}) {
    EXPECT_TRUE(DecodeImage(bytes, {}).ok());
    const absl::Status refused = DecodeImage(bytes, no_time).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kOutOfRange) << refused;
  }
}

TEST(Bombs, ALargeProgressiveJpegThatIsTakenEndsInTime) {
  const Cost cost = CostOfDecoding(JpegWithScans(6'000, 0));  // 36 MP
  EXPECT_EQ(cost.code, absl::StatusCode::kOk);
  EXPECT_LE(cost.time, absl::Seconds(2));
}

}  // namespace
}  // namespace image_variations
