// One vision tower for two purposes: a safety checker that has the image encoder's weights.
#include "pipeline/model/networks.h"

#include <filesystem>
#include <memory>

#include "ATen/ops/from_blob.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pipeline/model/network_runner.h"
#include "pipeline/model/torch_model_runner.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using testing::FloatNear;
using testing::Pointwise;

constexpr char kModel[] = "demo/model";
constexpr JobId kJob{1};

// A component of the bundled model, which has half precision, in single precision.
std::string Float32SafetensorsOf(const std::string& component) {
  const auto file =
      SafetensorsFile::Open(absl::StrCat(kModel, "/", component, "/model.safetensors")).value();
  std::vector<std::string> entries;
  std::string data;
  for (const std::string& name : file.names()) {
    const TensorView view = file.Find(name).value();
    EXPECT_EQ(view.type, TensorType::kFloat16);
    void* bytes = const_cast<char*>(view.bytes.data());
    const at::Tensor tensor = at::from_blob(bytes, view.shape, at::kHalf).to(at::kFloat);
    const size_t begin = data.size();
    data.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    entries.push_back(absl::StrCat("\"", name, "\":{\"dtype\":\"F32\",\"shape\":[",
                                   absl::StrJoin(view.shape, ","), "],\"data_offsets\":[", begin,
                                   ",", data.size(), "]}"));
  }
  const std::string header = absl::StrCat("{", absl::StrJoin(entries, ","), "}");
  const uint64_t length = header.size();
  return absl::StrCat(std::string(reinterpret_cast<const char*>(&length), sizeof length), header,
                      data);
}

std::unique_ptr<NetworkRunner> Load(const std::string& path) {
  auto runner = MakeTorchModelRunner(ModelDir::Open(path).value(),
                                     {.device = "cpu", .dtype = "fp32", .threads = 1})
                    .value();
  return std::unique_ptr<NetworkRunner>(dynamic_cast<NetworkRunner*>(runner.release()));
}

// The bundled model, whose checker has the image encoder's tower in other bytes: no longer the same
// weights, but the same values.
std::unique_ptr<NetworkRunner> LoadWithTwoTowers() {
  const TemporaryFolder folder;
  std::filesystem::copy(kModel, folder.path() / "model", std::filesystem::copy_options::recursive);
  folder.Write("model/safety_checker/model.safetensors", Float32SafetensorsOf("safety_checker"));
  return Load(folder.path() / "model");
}

Image Gradient(int width, int height) {
  Image image{width, height, {}};
  for (int i = 0; i < 3 * width * height; ++i) image.rgb.push_back(static_cast<uint8_t>(i / 7));
  return image;
}

ImageScores ScoreOf(NetworkRunner& runner, const Image& image) {
  EXPECT_TRUE(runner.EmbedImage(kJob, Gradient(64, 64), Preprocessing::kModelCard).ok());
  return runner.ScoreImages({{kJob, &image}}).value().at(0);
}

int64_t TowerRunsToScore(NetworkRunner& runner, const Image& image) {
  ScoreOf(runner, image);
  const int64_t before = runner.tower_runs();
  EXPECT_TRUE(runner.ScoreImages({{kJob, &image}}).ok());
  return runner.tower_runs() - before;
}

TEST(Networks, ACheckerWithTheEncodersTowerKeepsNoSecondCopy) {
  const auto runner = Load(kModel);
  const ClipVision& encoder = runner->networks().image_encoder;
  const ClipVision& checker = runner->networks().safety_checker->vision_model;
  EXPECT_TRUE(runner->networks().is_one_tower);
  EXPECT_TRUE(runner->info().has_one_tower);
  EXPECT_TRUE(checker.position_embedding.is_alias_of(encoder.position_embedding));
}

TEST(Networks, ACheckerWithOtherBytesKeepsItsOwn) {
  const auto runner = LoadWithTwoTowers();
  const ClipVision& encoder = runner->networks().image_encoder;
  const ClipVision& checker = runner->networks().safety_checker->vision_model;
  EXPECT_FALSE(runner->networks().is_one_tower);
  EXPECT_FALSE(runner->info().has_one_tower);
  EXPECT_FALSE(checker.position_embedding.is_alias_of(encoder.position_embedding));
}

TEST(Networks, SharingTheTowerChangesNoScore) {
  const auto one = Load(kModel);
  const auto two = LoadWithTwoTowers();
  for (const Image& image : {Gradient(64, 64), Gradient(96, 64)}) {
    const ImageScores shared = ScoreOf(*one, image);
    const ImageScores apart = ScoreOf(*two, image);
    EXPECT_THAT(shared.safety.concepts, Pointwise(FloatNear(1e-5f), apart.safety.concepts));
    EXPECT_THAT(shared.safety.special_care, Pointwise(FloatNear(1e-5f), apart.safety.special_care));
    EXPECT_NEAR(shared.similarity.value(), apart.similarity.value(), 1e-5);
  }
}

TEST(Networks, OneTowerLooksOnceAtAPictureForBothScores) {
  EXPECT_EQ(TowerRunsToScore(*Load(kModel), Gradient(128, 64)), 1);
  EXPECT_EQ(TowerRunsToScore(*LoadWithTwoTowers(), Gradient(128, 64)), 2);
}

}  // namespace
}  // namespace image_variations
