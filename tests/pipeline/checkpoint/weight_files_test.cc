#include "pipeline/checkpoint/weight_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/pipeline/checkpoint/bundled_model.h"
#include "tests/pipeline/checkpoint/safetensors_bytes.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using WeightFiles = ModelDirTest;

TEST_F(WeightFiles, TellsTheConvertersCommandWhenThereAreOnlyPickles) {
  Remove("vae/diffusion_pytorch_model.safetensors");
  Write("vae/diffusion_pytorch_model.bin", "\x80\x02");
  EXPECT_EQ(Open().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      OpenMessage(),
      AllOf(HasSubstr("vae/diffusion_pytorch_model.safetensors"), HasSubstr("never unpickles"),
            HasSubstr(absl::StrCat("python3 tools/convert_checkpoint.py ", model(), " "))));
}

TEST_F(WeightFiles, TellsTheConvertersCommandForASingleFile) {
  for (const char* name : {"model.ckpt", "weights.bin", "model.safetensors"}) {
    const std::string file = folder_.Write(name, "PK");
    const absl::Status status = ModelDir::Open(file).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("never unpickles"),
                      HasSubstr(absl::StrCat("python3 tools/convert_checkpoint.py ", file, " "))));
  }
}

TEST_F(WeightFiles, TakesAVariantWhereThereIsNoPlainFile) {
  for (const char* variant : {"fp16", "bf16"}) {
    const fs::path unet = folder_.path() / "model/unet";
    fs::rename(unet / "diffusion_pytorch_model.safetensors",
               unet / absl::StrCat("diffusion_pytorch_model.", variant, ".safetensors"));
    EXPECT_TRUE(Open().ok()) << OpenMessage();
    fs::rename(unet / absl::StrCat("diffusion_pytorch_model.", variant, ".safetensors"),
               unet / "diffusion_pytorch_model.safetensors");
  }
}

TEST_F(WeightFiles, PrefersThePlainFileToItsVariant) {
  Write("unet/diffusion_pytorch_model.fp16.safetensors", "not one");
  EXPECT_TRUE(Open().ok()) << OpenMessage();
}

// The image encoder's weights as two shards of one tensor each.
class Shards : public ModelDirTest {
 protected:
  Shards() {
    Remove("image_encoder/model.safetensors");
    WriteShard(1, "first");
    WriteShard(2, "second");
    WriteIndex(R"({"first": "model-00001-of-00002.safetensors",
                   "second": "model-00002-of-00002.safetensors"})");
  }
  void WriteShard(int number, absl::string_view tensor) {
    Write(absl::StrCat("image_encoder/model-0000", number, "-of-00002.safetensors"),
          SafetensorsBytes(
              absl::StrCat("{\"", tensor,
                           R"(": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}})"),
              "ab"));
  }
  void WriteIndex(absl::string_view weight_map) {
    Write("image_encoder/model.safetensors.index.json",
          absl::StrCat(R"({"metadata": {"total_size": 4}, "weight_map": )", weight_map, "}"));
  }
};

TEST_F(Shards, AreOneSetOfWeights) {
  const auto model = ModelDir::Open(this->model());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->image_encoder_weights.names(), ElementsAre("first", "second"));
  EXPECT_TRUE(model->image_encoder_weights.Find("second").ok());
  EXPECT_EQ(model->image_encoder_weights.Find("third").status(),
            absl::NotFoundError("image_encoder: no tensor third"));
}

TEST_F(Shards, MayBeMissingNoFile) {
  Remove("image_encoder/model-00002-of-00002.safetensors");
  EXPECT_THAT(OpenMessage(), HasSubstr("model-00002-of-00002.safetensors: no such file"));
}

TEST_F(Shards, MustHoldWhatTheIndexSays) {
  WriteShard(2, "first");
  EXPECT_THAT(OpenMessage(),
              HasSubstr("tensor first is in model-00001-of-00002.safetensors by the index"));
  WriteShard(2, "other");
  EXPECT_THAT(OpenMessage(), HasSubstr("tensor other is not in the index"));
  WriteShard(2, "second");
  WriteIndex(R"({"first": "model-00001-of-00002.safetensors",
                 "second": "model-00002-of-00002.safetensors",
                 "third": "model-00002-of-00002.safetensors"})");
  EXPECT_THAT(OpenMessage(), HasSubstr("the index names 3 tensors, its shards have 2"));
}

TEST_F(Shards, StayInTheirFolder) {
  WriteIndex(R"({"first": "../unet/diffusion_pytorch_model.safetensors"})");
  EXPECT_THAT(OpenMessage(), HasSubstr("is not the name of a safetensors file in this folder"));
}

TEST_F(Shards, NeedAWeightMap) {
  Write("image_encoder/model.safetensors.index.json", "{}");
  EXPECT_THAT(OpenMessage(), AllOf(HasSubstr("index.json"), HasSubstr("weight_map")));
}

}  // namespace
}  // namespace image_variations
