#include "pipeline/checkpoint/model_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/sha256.h"
#include "tests/pipeline/checkpoint/bundled_model.h"
#include "tests/pipeline/checkpoint/safetensors_bytes.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Key;
using testing::Pair;

constexpr char kCommit[] = "a2a13984e57db80adcc9e3f85d568dcccb9b29fc";

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

TEST_F(ModelDirTest, SaysThatAModelIsALoopOfLinks) {
  const fs::path loop = folder_.path() / "loop";
  fs::create_symlink("loop", loop);
  const absl::Status status = ModelDir::Open(loop.string()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("loop: "), HasSubstr("symbolic links")));
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

TEST_F(HubCache, RepositoryAndRevisionAreLookedUpInTheCache) {
  for (const std::string name : {"acme/cat-variations", "acme/cat-variations@main"}) {
    const auto model = ModelDir::Open(name, folder_.path().string());
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->model_id, "acme/cat-variations");
    EXPECT_EQ(model->revision, kCommit);
  }
}

TEST_F(HubCache, AFolderOfThisNameWinsOverTheCache) {
  const fs::path given = fs::path("demo") / "model";
  EXPECT_EQ(ModelDir::Open(given.string(), folder_.path().string())->model_id, "model");
}

TEST_F(HubCache, AnAbsentRepositoryGetsTheCommandThatDownloadsIt) {
  EXPECT_THAT(
      std::string(ModelDir::Open("acme/dogs@v2.0", folder_.path().string()).status().message()),
      AllOf(HasSubstr("never downloads"), HasSubstr("hf download acme/dogs --revision v2.0")));
}

TEST_F(HubCache, AMissingFileOfASnapshotGetsTheCommandToo) {
  const fs::path snapshot = repository_ / "snapshots" / kCommit;
  fs::remove(folder_.path() / snapshot / "vae/diffusion_pytorch_model.safetensors");
  folder_.Write(repository_ / "blobs/0123.incomplete", "half");
  EXPECT_THAT(
      std::string(
          ModelDir::Open("acme/cat-variations", folder_.path().string()).status().message()),
      AllOf(HasSubstr("vae/diffusion_pytorch_model.safetensors: no such file"),
            HasSubstr("interrupted"), HasSubstr("hf download acme/cat-variations")));
}

TEST_F(HubCache, ASnapshotOfPicklesGetsTheConvertersCommand) {
  const fs::path vae = folder_.path() / repository_ / "snapshots" / kCommit / "vae";
  fs::remove(vae / "diffusion_pytorch_model.safetensors");
  fs::create_symlink("../../../blobs/0123", vae / "diffusion_pytorch_model.bin");
  const absl::Status status =
      ModelDir::Open("acme/cat-variations", folder_.path().string()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("python3 tools/convert_checkpoint.py ",
                                     vae.parent_path().string(), " cat-variations-safetensors")));
}

TEST_F(ModelDirTest, HoldsConfigsAgainstTheManifest) {
  std::string manifest;
  for (const char* file : kFiles) {
    absl::StrAppend(&manifest, manifest.empty() ? "{" : ",", "\"", file, "\": \"",
                    Sha256OfText(ReadBundled(file)), "\"");
  }
  Write("manifest.json", manifest + "}");
  EXPECT_TRUE(Open().ok()) << OpenMessage();
  Write("vae/config.json", ReadBundled("vae/config.json") + " ");
  EXPECT_THAT(OpenMessage(), HasSubstr("manifest.json: vae/config.json has sha256 "));
}

TEST_F(ModelDirTest, HoldsWeightsAgainstTheManifest) {
  const std::string file = folder_.Write("unet/empty.safetensors", SafetensorsBytes("{}"));
  folder_.Write("manifest.json",
                absl::StrCat(R"({"unet/empty.safetensors": ")", std::string(64, '0'), "\"}"));
  ModelDir model;
  model.manifest = *Manifest::Read(folder_.path().string());
  model.unet_weights.folder = "unet";
  model.unet_weights.files.push_back(*SafetensorsFile::Open(file));
  EXPECT_THAT(
      std::string(ComponentDigests(model).status().message()),
      HasSubstr("unet/empty.safetensors has sha256 "
                "0000000000000000000000000000000000000000000000000000000000000000, "
                "the file has 411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd"));
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
