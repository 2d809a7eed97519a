// Memory runs out at every allocation in turn, in what reads untrusted bytes: each time there is a
// status, and everything is given back.
#include <openssl/err.h>

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "pipeline/base/folder.h"
#include "pipeline/base/memory_guard.h"
#include "pipeline/base/sha256.h"
#include "pipeline/checkpoint/file.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/image/codec.h"
#include "tests/pipeline/checkpoint/bundled_model.h"
#include "tests/pipeline/checkpoint/safetensors_bytes.h"
#include "tests/pipeline/image/test_pictures.h"
#include "tests/support/every_allocation.h"
#include "tests/support/failing_malloc.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using absl::StatusCode;

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

// Valid and damaged in all the ways that the fuzzer has found.
TEST(OutOfMemory, WhileDecodingWhatIsFuzzed) {
  for (const std::string& name : ListFolder("tests/fuzz/corpus/decode")) {
    SCOPED_TRACE(name);
    const std::string bytes = ReadSmallFile("tests/fuzz/corpus/decode/" + name, 1 << 16).value();
    ExpectDecoding(bytes, DecodeImage(bytes, {}).status().code());
  }
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

TEST(OutOfMemory, WhileReadingCheckpointsThatAreFuzzed) {
  for (const std::string& name : ListFolder("tests/fuzz/corpus/safetensors")) {
    SCOPED_TRACE(name);
    const std::string path = "tests/fuzz/corpus/safetensors/" + name;
    const auto read = [&] { return SafetensorsFile::Open(path).status(); };
    ExpectAStatusAtEveryAllocation(read, read().code());
  }
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

// The bundled model's configs with weights of two tensors, which are not looked into here.
class OutOfMemoryModel : public ModelDirTest {
 protected:
  void SetUp() override {
    for (const std::string file : kFiles) {
      if (!absl::EndsWith(file, ".safetensors")) continue;
      Remove(file);
      std::filesystem::copy_file("tests/fuzz/corpus/safetensors/two_tensors",
                                 std::filesystem::path(model()) / file);
    }
  }

  void ExpectOpening(StatusCode usual = StatusCode::kOk) { ExpectOpening(model(), "", usual); }

  void ExpectOpening(const std::string& path, const std::string& cache, StatusCode usual) {
    const absl::StatusOr<ModelDir> whole = ModelDir::Open(path, cache);
    ExpectAStatusAtEveryAllocation(
        [&]() -> absl::Status {
          const absl::StatusOr<ModelDir> dir = ModelDir::Open(path, cache);
          if (!dir.ok()) return dir.status();
          if (dir->model_id != whole->model_id || dir->revision != whole->revision) {
            return absl::InternalError("another name");
          }
          return ComponentDigests(*dir).status();
        },
        usual);
  }

  // Moves the model into a cache; returns its snapshot.
  std::filesystem::path MoveToCache() {
    const auto repository = folder_.path() / "models--acme--cats";
    folder_.Write(repository / "refs/main", kCommit);
    std::filesystem::create_directories(repository / "snapshots");
    std::filesystem::rename(model(), repository / "snapshots" / kCommit);
    return repository / "snapshots" / kCommit;
  }

  const std::string kCommit = std::string(40, 'a');
};

TEST_F(OutOfMemoryModel, WhileOpening) { ExpectOpening(); }

TEST_F(OutOfMemoryModel, WhileOpeningARelativePath) {
  const std::string path = std::filesystem::relative(model()).string();
  ExpectOpening(path, "", StatusCode::kOk);
}

TEST_F(OutOfMemoryModel, WhileOpeningShards) {
  Remove("unet/diffusion_pytorch_model.safetensors");
  for (const char* shard : {"1", "2"}) {
    Write(absl::StrCat("unet/", shard, ".safetensors"),
          SafetensorsBytes(absl::StrCat("{\"", shard, R"(":{"dtype":"F16","shape":[1],)",
                                        R"("data_offsets":[0,2]}})"),
                           "xx"));
  }
  Write("unet/diffusion_pytorch_model.safetensors.index.json",
        R"({"weight_map":{"1":"1.safetensors","2":"2.safetensors"}})");
  ExpectOpening();
}

TEST_F(OutOfMemoryModel, WhileOpeningWhatItsManifestRefuses) {
  Write("manifest.json", absl::StrCat(R"({"model_index.json":")", std::string(64, '0'), "\"}"));
  ExpectOpening(StatusCode::kInvalidArgument);
}

TEST_F(OutOfMemoryModel, WhileOpeningWhatAHubsCacheHas) {
  MoveToCache();
  ExpectOpening("acme/cats", folder_.path().string(), StatusCode::kOk);
}

TEST_F(OutOfMemoryModel, WhileOpeningASnapshotsFolder) {
  ExpectOpening(MoveToCache().string(), "", StatusCode::kOk);
}

TEST_F(OutOfMemoryModel, WhileOpeningAnIncompleteSnapshot) {
  const auto snapshot = MoveToCache();
  std::filesystem::remove(snapshot / "vae/config.json");
  ExpectOpening(snapshot.string(), "", StatusCode::kNotFound);
}

TEST_F(OutOfMemoryModel, WhileOpeningWhatHasOnlyPickles) {
  Remove("unet/diffusion_pytorch_model.safetensors");
  Write("unet/diffusion_pytorch_model.bin", "x");
  ExpectOpening(StatusCode::kFailedPrecondition);
}

TEST_F(OutOfMemoryModel, WhileOpeningWhatALinkHasLost) {
  Remove("unet/config.json");
  std::filesystem::create_symlink("nowhere", std::filesystem::path(model()) / "unet/config.json");
  ExpectOpening(StatusCode::kNotFound);
}

TEST_F(OutOfMemoryModel, WhileOpeningWhatIsNotImplemented) {
  Edit("unet/config.json", "\"_class_name\"",
       "\"class_embed_type\": [1, {\"a\": 0.5}], \"_class_name\"");
  ExpectOpening(StatusCode::kInvalidArgument);
}

TEST_F(OutOfMemoryModel, WhileOpeningWhatIsIncomplete) {
  Remove("vae/config.json");
  ExpectOpening(StatusCode::kNotFound);
}

}  // namespace
}  // namespace image_variations
