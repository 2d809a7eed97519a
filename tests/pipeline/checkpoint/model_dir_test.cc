#include "pipeline/checkpoint/model_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/pipeline/checkpoint/safetensors_bytes.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Key;
using testing::Pair;

constexpr char kBundled[] = "demo/model";
constexpr char kCommit[] = "a2a13984e57db80adcc9e3f85d568dcccb9b29fc";

const char* const kFiles[] = {
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
};

std::string ReadBundled(const fs::path& name) {
  std::ostringstream text;
  text << std::ifstream(kBundled / name, std::ios::binary).rdbuf();
  return text.str();
}

// A copy of the bundled model, of links, whose files a test may replace.
class ModelDirTest : public testing::Test {
 protected:
  ModelDirTest() { LinkBundled("model"); }

  void LinkBundled(const fs::path& folder) {
    for (const char* file : kFiles) {
      const fs::path link = folder_.path() / folder / file;
      fs::create_directories(link.parent_path());
      fs::create_symlink(fs::absolute(kBundled) / file, link);
    }
  }

  std::string model() const { return (folder_.path() / "model").string(); }
  void Write(const fs::path& name, absl::string_view bytes) {
    folder_.Write("model" / name, bytes);
  }
  void Remove(const fs::path& name) { fs::remove(folder_.path() / "model" / name); }
  // Replaces text in a file; it must be there.
  void Edit(const fs::path& name, absl::string_view from, absl::string_view to) {
    const std::string text = ReadBundled(name);
    ASSERT_THAT(text, HasSubstr(std::string(from))) << name;
    Write(name, absl::StrReplaceAll(text, {{from, to}}));
  }
  absl::Status Open() { return ModelDir::Open(model()).status(); }
  std::string OpenMessage() { return std::string(Open().message()); }

  TemporaryFolder folder_;
};

TEST_F(ModelDirTest, ReadsTheBundledModel) {
  const auto model = ModelDir::Open(kBundled);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->model_id, "model");
  EXPECT_EQ(model->revision, "");
  EXPECT_EQ(model->sampler.default_sampler, "pndm");
  EXPECT_EQ(model->sampler.timestep_spacing, TimestepSpacing::kLeading);
  EXPECT_THAT(model->unet.block_out_channels, ElementsAre(64, 96, 128));
  EXPECT_THAT(model->unet.down_block_has_attention, ElementsAre(false, true, false));
  EXPECT_THAT(model->unet.attention_heads, ElementsAre(4, 4, 4));
  EXPECT_EQ(model->vae.factor(), 4);
  EXPECT_EQ(model->vae.scaling_factor, 0.40405);
  EXPECT_EQ(model->image_encoder.projection_dim, 192);
  EXPECT_EQ(model->preprocessor.shortest_edge, 64);
  ASSERT_TRUE(model->safety_checker.has_value());
  EXPECT_EQ(model->safety_checker->hidden_size, 128);
  EXPECT_THAT(model->unet_weights.Find("conv_in.weight")->shape, ElementsAre(64, 4, 3, 3));
  EXPECT_EQ(model->safety_checker_weights.Find("concept_embeds")->type, TensorType::kFloat16);
}

TEST_F(ModelDirTest, NamesAFolderAsItIsNamed) {
  const std::string names[] = {model(), model() + "/", model() + "/unet/.."};
  for (const std::string& name : names) EXPECT_EQ(ModelDir::Open(name)->model_id, "model") << name;
}

TEST_F(ModelDirTest, SaysThatThereIsNoSuchFolder) {
  EXPECT_EQ(ModelDir::Open("/no/such/model").status(),
            absl::NotFoundError("/no/such/model: no such folder"));
}

TEST_F(ModelDirTest, NamesEachMissingFile) {
  for (const char* file : kFiles) {
    Remove(file);
    EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound) << file;
    EXPECT_THAT(OpenMessage(), AllOf(HasSubstr(file), HasSubstr("no such file")));
    fs::create_symlink(fs::absolute(kBundled) / file, folder_.path() / "model" / file);
  }
}

TEST_F(ModelDirTest, NamesEachTruncatedFile) {
  for (const char* file : kFiles) {
    const std::string whole = ReadBundled(file);
    for (const size_t size : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 2}) {
      Write(file, whole.substr(0, size));
      EXPECT_EQ(Open().code(), absl::StatusCode::kInvalidArgument) << file << " " << size;
      EXPECT_THAT(OpenMessage(), HasSubstr(file)) << size;
    }
    Write(file, whole);
  }
  EXPECT_TRUE(Open().ok());
}

TEST_F(ModelDirTest, NamesEachFileThatIsAGitLfsPointer) {
  for (const char* file : kFiles) {
    Write(file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    EXPECT_THAT(OpenMessage(), AllOf(HasSubstr(file), HasSubstr("git lfs pull")));
    Write(file, ReadBundled(file));
  }
}

TEST_F(ModelDirTest, NamesEachDanglingLinkAndItsTarget) {
  for (const char* file : kFiles) {
    Remove(file);
    fs::create_symlink("../../blobs/0123", folder_.path() / "model" / file);
    EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound) << file;
    EXPECT_THAT(OpenMessage(), AllOf(HasSubstr(file), HasSubstr("../../blobs/0123")));
    Write(file, ReadBundled(file));
  }
}

TEST_F(ModelDirTest, NamesFileAndKeyOfAWrongValue) {
  const struct {
    const char *file, *from, *to, *message;
  } edits[] = {
      {"model_index.json", "StableDiffusionImageVariationPipeline", "StableDiffusionPipeline",
       "_class_name \"StableDiffusionPipeline\""},
      {"model_index.json", "CLIPVisionModelWithProjection", "CLIPModel",
       "image_encoder: class \"CLIPModel\""},
      {"model_index.json", "AutoencoderKL", "VQModel", "vae: class \"VQModel\""},
      {"model_index.json", "\"unet\"", "\"network\"", "unet is not a pair"},
      {"scheduler/scheduler_config.json", "PNDMScheduler", "DDIMScheduler",
       "clip_sample is absent"},
      {"scheduler/scheduler_config.json", "PNDMScheduler", "EulerDiscreteScheduler",
       "_class_name is EulerDiscreteScheduler, model_index.json says PNDMScheduler"},
      {"unet/config.json", "\"silu\"", "\"mish\"", "act_fn"},
      {"vae/config.json", "\"shift_factor\": null", "\"shift_factor\": 1", "shift_factor"},
      {"image_encoder/config.json", "quick_gelu", "relu", "hidden_act"},
      {"safety_checker/config.json", "\"image_size\": 64", "\"image_size\": 0",
       "vision_config.image_size"},
      {"feature_extractor/preprocessor_config.json", "\"resample\": 3", "\"resample\": 0",
       "resample"},
  };
  for (const auto& [file, from, to, message] : edits) {
    Edit(file, from, to);
    EXPECT_EQ(Open().code(), absl::StatusCode::kInvalidArgument) << file;
    EXPECT_THAT(OpenMessage(), AllOf(HasSubstr(file), HasSubstr(message)));
    Write(file, ReadBundled(file));
  }
}

TEST_F(ModelDirTest, RefusesComponentsThatDoNotFitTogether) {
  const struct {
    const char *file, *from, *to, *message;
  } edits[] = {
      {"unet/config.json", "\"cross_attention_dim\": 192", "\"cross_attention_dim\": 768",
       "image_encoder projection_dim is 192 but unet cross_attention_dim is 768"},
      {"unet/config.json", "\"out_channels\": 4", "\"out_channels\": 8", "unet out_channels is 8"},
      {"vae/config.json", "\"latent_channels\": 4", "\"latent_channels\": 16",
       "vae latent_channels is 16 but unet in_channels is 4"},
      {"image_encoder/config.json", "\"image_size\": 64", "\"image_size\": 224",
       "crop_size.height is 64 but image_encoder image_size is 224"},
  };
  for (const auto& [file, from, to, message] : edits) {
    Edit(file, from, to);
    EXPECT_THAT(OpenMessage(), HasSubstr(message));
    Write(file, ReadBundled(file));
  }
}

TEST_F(ModelDirTest, OpensWithoutASafetyCheckerSavedAsNulls) {
  Edit("model_index.json", R"("stable_diffusion",
    "StableDiffusionSafetyChecker")",
       "null, null");
  fs::remove_all(folder_.path() / "model/safety_checker");
  const auto model = ModelDir::Open(this->model());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(model->safety_checker.has_value());
  EXPECT_TRUE(model->safety_checker_weights.files.empty());
}

TEST_F(ModelDirTest, TellsTheConvertersCommandWhenThereAreOnlyPickles) {
  Remove("vae/diffusion_pytorch_model.safetensors");
  Write("vae/diffusion_pytorch_model.bin", "\x80\x02");
  EXPECT_EQ(Open().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      OpenMessage(),
      AllOf(HasSubstr("vae/diffusion_pytorch_model.safetensors"), HasSubstr("never unpickles"),
            HasSubstr(absl::StrCat("python3 tools/convert_checkpoint.py ", model(), " "))));
}

TEST_F(ModelDirTest, TakesAVariantWhereThereIsNoPlainFile) {
  for (const char* variant : {"fp16", "bf16"}) {
    const fs::path unet = folder_.path() / "model/unet";
    fs::rename(unet / "diffusion_pytorch_model.safetensors",
               unet / absl::StrCat("diffusion_pytorch_model.", variant, ".safetensors"));
    EXPECT_TRUE(Open().ok()) << OpenMessage();
    fs::rename(unet / absl::StrCat("diffusion_pytorch_model.", variant, ".safetensors"),
               unet / "diffusion_pytorch_model.safetensors");
  }
}

TEST_F(ModelDirTest, PrefersThePlainFileToItsVariant) {
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

class HubCache : public ModelDirTest {
 protected:
  HubCache() {
    LinkBundled(repository_ / "snapshots" / kCommit);
    folder_.Write(repository_ / "refs/main", kCommit);
  }

  const fs::path repository_ = "models--acme--cat-variations";
};

TEST_F(HubCache, SnapshotIsNamedByRepositoryAndCommit) {
  const auto model =
      ModelDir::Open((folder_.path() / repository_ / "snapshots" / kCommit).string());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->model_id, "acme/cat-variations");
  EXPECT_EQ(model->revision, kCommit);
}

TEST_F(HubCache, RepositoryFolderMeansItsMainRevision) {
  const auto model = ModelDir::Open((folder_.path() / repository_).string());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->revision, kCommit);
}

TEST_F(HubCache, RepositoryFolderWithoutMainNamesTheMissingRef) {
  fs::remove(folder_.path() / repository_ / "refs/main");
  EXPECT_THAT(
      std::string(ModelDir::Open((folder_.path() / repository_).string()).status().message()),
      HasSubstr("refs/main: no such file"));
}

TEST_F(ModelDirTest, DigestsAreTheFilesSha256ByComponent) {
  const std::string file = folder_.Write("empty.safetensors", SafetensorsBytes("{}"));
  ModelDir model;
  model.unet_weights.folder = "unet";
  model.unet_weights.files.push_back(*SafetensorsFile::Open(file));
  model.vae_weights.folder = "vae";
  model.vae_weights.files.push_back(*SafetensorsFile::Open(file));
  model.vae_weights.files.push_back(*SafetensorsFile::Open(file));
  const auto digests = ComponentDigests(model);
  ASSERT_TRUE(digests.ok()) << digests.status();
  // sha256sum empty.safetensors; the same of its digest, a newline and its digest.
  EXPECT_THAT(
      *digests,
      ElementsAre(Pair("unet", "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd"),
                  Pair("vae", "a531045964640f87fe2dc4f981afd67587db053c06ca4b7616bc4895bc9f2b1f")));
}

TEST_F(ModelDirTest, DigestsOfTheBundledModelCoverEveryComponent) {
  EXPECT_THAT(*ComponentDigests(*ModelDir::Open(kBundled)),
              ElementsAre(Key("image_encoder"), Key("safety_checker"), Key("unet"), Key("vae")));
}

}  // namespace
}  // namespace image_variations
