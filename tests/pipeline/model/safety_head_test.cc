// The safety checker from the embedding to the verdict, against diffusers' own on 1,000 random
// embeddings around the thresholds: tools/make_safety_golden.py.
#include "pipeline/model/safety_head.h"

#include <cmath>

#include "ATen/TensorOperators.h"
#include "ATen/ops/from_blob.h"
#include "ATen/ops/isfinite.h"
#include "ATen/ops/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace image_variations {
namespace {

constexpr char kGolden[] = "tests/golden/safety-verdicts.safetensors";
constexpr int64_t kEmbeddings = 1000;

class SafetyVerdictTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto file = SafetensorsFile::Open(kGolden);
    ASSERT_TRUE(file.ok()) << file.status();
    flagged_ = GoldenValues(*file, "flagged").value();
    embeds_ = Read(*file, "embeds", kEmbeddings);
    head_.concept_embeds = Read(*file, "concept_embeds", 17);
    head_.special_care_embeds = Read(*file, "special_care_embeds", 3);
    head_.concept_embeds_weights = Read(*file, "concept_embeds_weights", 1).flatten();
    head_.special_care_embeds_weights = Read(*file, "special_care_embeds_weights", 1).flatten();
  }

  static at::Tensor Read(const SafetensorsFile& file, const std::string& name, int64_t rows) {
    std::vector<float> values = GoldenValues(file, name).value();
    return at::from_blob(values.data(), {rows, static_cast<int64_t>(values.size()) / rows}).clone();
  }

  // With every score so much higher.
  bool IsBlocked(const at::Tensor& embeds, float shift = 0) const {
    const Image image{1, 1, {0, 0, 0}};
    SafetyScores scores = head_.Score(embeds);
    for (std::vector<float>* part : {&scores.special_care, &scores.concepts}) {
      for (float& score : *part) score += shift;
    }
    return SafetyPolicy(SafetyMode::kRequired).Judge(image, scores).blocked();
  }

  // Processors add the 32 products of a cosine in unlike orders, which decides a tie.
  bool IsDecidedByRounding(const at::Tensor& embeds) const {
    constexpr float kRounding = 5e-7f;
    return IsBlocked(embeds, kRounding) != IsBlocked(embeds, -kRounding);
  }

  SafetyHead head_;
  at::Tensor embeds_;
  std::vector<float> flagged_;
};

TEST_F(SafetyVerdictTest, IsDiffusersWhereverScoresAreFinite) {
  std::vector<int64_t> differ;
  int finite = 0, ties = 0;
  for (int64_t i = 0; i < kEmbeddings; ++i) {
    const at::Tensor embeds = embeds_.narrow(0, i, 1);
    if (!at::isfinite(embeds).all().item<bool>()) continue;
    ++finite;
    if (IsDecidedByRounding(embeds)) {
      ++ties;
      continue;
    }
    if (IsBlocked(embeds) != (flagged_[static_cast<size_t>(i)] != 0)) differ.push_back(i);
  }
  EXPECT_EQ(finite, 960);
  EXPECT_LT(ties, 240);
  EXPECT_THAT(differ, testing::IsEmpty());
}

TEST_F(SafetyVerdictTest, BlocksWhatIsNotFiniteAndDiffusersPasses) {
  int not_finite = 0;
  for (int64_t i = 0; i < kEmbeddings; ++i) {
    const at::Tensor embeds = embeds_.narrow(0, i, 1);
    if (at::isfinite(embeds).all().item<bool>()) continue;
    ++not_finite;
    EXPECT_EQ(flagged_[static_cast<size_t>(i)], 0) << i;
    EXPECT_TRUE(IsBlocked(embeds)) << i;
  }
  EXPECT_EQ(not_finite, 40);
}

TEST(Similarity, IsTheCosine) {
  const at::Tensor x = at::tensor({3.0f, 4.0f}).unsqueeze(0);
  EXPECT_FLOAT_EQ(Similarity(x, x * 100).value(), 1);
  EXPECT_FLOAT_EQ(Similarity(x, at::tensor({-4.0f, 3.0f}).unsqueeze(0)).value(), 0);
}

TEST(Similarity, IsNoneWhereHalfPrecisionOverflowed) {
  const at::Tensor x = at::tensor({3.0f, 4.0f}).unsqueeze(0);
  EXPECT_EQ(Similarity(x, x * INFINITY), std::nullopt);
}

}  // namespace
}  // namespace image_variations
