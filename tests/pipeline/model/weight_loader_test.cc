#include "pipeline/model/weight_loader.h"

#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;
  float value = 1;
};

// A component whose tensors are float32, each filled with one value.
class Component {
 public:
  explicit Component(const std::vector<NamedTensor>& tensors) {
    weights.folder = "unet";
    AddFile("weights.safetensors", tensors);
  }
  Component(const std::vector<NamedTensor>& first, const std::vector<NamedTensor>& second) {
    weights.folder = "unet";
    AddFile("weights-00001-of-00002.safetensors", first);
    AddFile("weights-00002-of-00002.safetensors", second);
  }

  ComponentWeights weights;

 private:
  void AddFile(const std::string& name, const std::vector<NamedTensor>& tensors) {
    std::string header = "{", data;
    for (const NamedTensor& tensor : tensors) {
      int64_t count = 1;
      for (const int64_t side : tensor.shape) count *= side;
      const size_t begin = data.size();
      for (int64_t i = 0; i < count; ++i) {
        data.append(reinterpret_cast<const char*>(&tensor.value), sizeof tensor.value);
      }
      absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", tensor.name,
                      "\":{\"dtype\":\"F32\",\"shape\":[", absl::StrJoin(tensor.shape, ","),
                      "],\"data_offsets\":[", begin, ",", data.size(), "]}");
    }
    absl::StrAppend(&header, "}");
    header.resize((header.size() + 8 + 63) / 64 * 64 - 8, ' ');  // the first tensor is aligned
    const uint64_t length = header.size();
    const std::string path = folder_.Write(
        name, absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&length), sizeof length),
                           header, data));
    weights.files.push_back(SafetensorsFile::Open(path).value());
  }

  TemporaryFolder folder_;
};

TEST(WeightLoader, TakesATensorAsItIsInTheFile) {
  const Component component({{"conv.bias", {3}, 0.5f}});
  WeightLoader loader(component.weights, {});
  EXPECT_TRUE(at::equal(loader.Take("conv.bias", {3}), at::full({3}, 0.5f)));
  EXPECT_TRUE(std::move(loader).Finish().ok());
}

TEST(WeightLoader, LeavesATensorOfTheComputeTypeInTheMapping) {
  const Component component({{"weight", {2, 2}}});
  WeightLoader loader(component.weights, {});
  EXPECT_EQ(loader.Take("weight", {2, 2}).const_data_ptr(),
            component.weights.Find("weight")->bytes.data());
}

TEST(WeightLoader, CopiesATensorThatIsNotAlignedAsLibTorchWould) {
  const Component component({{"first", {1}}, {"second", {2}, 3}});
  WeightLoader loader(component.weights, {});
  loader.Take("first", {1});
  const at::Tensor second = loader.Take("second", {2});
  EXPECT_NE(second.const_data_ptr(), component.weights.Find("second")->bytes.data());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(second.const_data_ptr()) % 64, 0);
  EXPECT_TRUE(at::equal(second, at::full({2}, 3.0f)));
}

TEST(WeightLoader, TheMappingLivesAsLongAsItsTensors) {
  at::Tensor weight;
  {
    const Component component({{"weight", {2, 2}, 7}});
    weight = WeightLoader(component.weights, {}).Take("weight", {2, 2});
  }
  EXPECT_TRUE(at::equal(weight, at::full({2, 2}, 7.0f)));
}

TEST(WeightLoader, ConvertsToTheComputeType) {
  const Component component({{"weight", {2}, 1.5f}});
  WeightLoader loader(component.weights, {.dtype = at::kBFloat16});
  EXPECT_TRUE(at::equal(loader.Take("weight", {2}), at::full({2}, 1.5f, at::kBFloat16)));
}

TEST(WeightLoader, TakesKernelsChannelsLast) {
  const std::vector<int64_t> shape = {5, 48, 3, 2};
  const Component component({{"weight", shape}});
  std::fstream file(component.weights.files[0].path(),
                    std::ios::in | std::ios::out | std::ios::binary);
  const at::Tensor values = at::arange(5 * 48 * 6, at::kFloat).view(shape);
  file.seekp(-static_cast<int64_t>(values.nbytes()), std::ios::end);
  file.write(static_cast<const char*>(values.const_data_ptr()),
             static_cast<std::streamsize>(values.nbytes()))
      .flush();
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    WeightLoader loader(component.weights, {.dtype = type});
    const at::Tensor kernels = loader.TakeKernels("weight", shape);
    EXPECT_TRUE(kernels.is_contiguous(at::MemoryFormat::ChannelsLast)) << type;
    EXPECT_TRUE(at::equal(kernels, values.to(type))) << type;
    EXPECT_TRUE(std::move(loader).Finish().ok());
  }
}

TEST(WeightLoader, LeavesWhatIsSeldomNeededInTheMappingWhateverItsTypeAndPlace) {
  const std::vector<int64_t> shape = {2, 3, 1, 2};
  const Component component({{"first", {1}}, {"second", shape, 1.5f}});
  WeightLoader loader(component.weights, {.dtype = at::kBFloat16});
  loader.Take("first", {1});
  const auto [stored, values] = loader.TakeStoredKernels("second", shape);
  EXPECT_EQ(stored.const_data_ptr(), component.weights.Find("second")->bytes.data());
  EXPECT_TRUE(at::equal(stored, at::full(shape, 1.5f)));
  EXPECT_TRUE(at::equal(values, at::full(shape, 1.5f, at::kBFloat16)));
  EXPECT_TRUE(values.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(std::move(loader).Finish().ok());
}

// Of the mapping with this address.
int64_t ResidentKilobytes(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  bool is_wanted = false;
  int64_t kilobytes = 0;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2) {
      is_wanted = begin <= wanted && wanted < end;
    } else if (is_wanted && std::sscanf(line.c_str(), "Rss: %" SCNd64, &kilobytes) == 1) {
      return kilobytes;
    }
  }
  return -1;
}

TEST(WeightLoader, WhatIsSeldomNeededIsNotInMemoryUntilThen) {
  const std::vector<int64_t> shape = {100, 100, 10, 10};
  const Component component({{"weight", shape}});
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    WeightLoader loader(component.weights, {.dtype = type});
    const auto [stored, values] = loader.TakeStoredKernels("weight", shape);
    EXPECT_TRUE(at::equal(values, at::full(shape, 1.0f, type)));
    const int64_t resident = ResidentKilobytes(stored.const_data_ptr());
    EXPECT_GE(resident, 0);
    EXPECT_LT(resident, 500);
    EXPECT_TRUE(at::equal(stored, at::full(shape, 1.0f)));
    EXPECT_GT(ResidentKilobytes(stored.const_data_ptr()), 3900);
  }
}

TEST(WeightLoader, ChecksWhatItLeavesInTheMapping) {
  const Component component({{"misshapen", {2, 1, 1, 1}}, {"overflowing", {2, 2, 1, 1}, 3.4e38f}});
  WeightLoader loader(component.weights, {.dtype = at::kBFloat16});
  EXPECT_TRUE(at::equal(loader.TakeStoredKernels("misshapen", {3, 1, 2, 1}).stored,
                        at::full({3, 1, 2, 1}, 0.0f, at::kBFloat16)));
  loader.TakeStoredKernels("overflowing", {2, 2, 1, 1});
  EXPECT_THAT(std::string(std::move(loader).Finish().message()),
              AllOf(HasSubstr("misshapen is (2,1,1,1), needed (3,1,2,1)"),
                    HasSubstr("not finite: overflowing")));
}

TEST(WeightLoader, TellsAllProblemsAndTheFileInOneMessage) {
  const Component component({{"bad.weight", {2, 3}},
                             {"good.weight", {2}},
                             {"nan.weight", {2}, std::nanf("")},
                             {"infinite.weight", {2}, INFINITY},
                             {"unneeded_nan.weight", {2}, std::nanf("")},
                             {"unknown.weight", {2}}});
  WeightLoader loader(component.weights, {});
  loader.Take("bad.weight", {3, 2});
  loader.Take("good.weight", {2});
  loader.Take("nan.weight", {2});
  loader.Take("infinite.weight", {2});
  loader.Take("absent.weight", {2});
  loader.Expect("absent.bias", {2});
  loader.Expect("unneeded_nan.weight", {2});
  const absl::Status status = std::move(loader).Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(HasSubstr("unet ("), HasSubstr("weights.safetensors"),
            HasSubstr("2 missing: absent.weight, absent.bias"),
            HasSubstr("1 extra: unknown.weight"), HasSubstr("bad.weight is (2,3), needed (3,2)"),
            HasSubstr("not finite: nan.weight, infinite.weight, unneeded_nan.weight"),
            Not(HasSubstr("good.weight"))));
}

TEST(WeightLoader, NamesTheShardOfABadTensor) {
  const Component component({{"good.weight", {2}}},
                            {{"nan.weight", {2}, std::nanf("")}, {"bad.weight", {2}}});
  WeightLoader loader(component.weights, {});
  loader.Take("good.weight", {2});
  loader.Take("nan.weight", {2});
  loader.Take("bad.weight", {3});
  EXPECT_THAT(std::string(std::move(loader).Finish().message()),
              AllOf(HasSubstr("nan.weight (in weights-00002-of-00002.safetensors)"),
                    HasSubstr("bad.weight (in weights-00002-of-00002.safetensors) is (2)")));
}

TEST(WeightLoader, RefusesIntegersInPlaceOfAWeight) {
  const TemporaryFolder folder;
  const std::string header = R"({"weight":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})";
  const uint64_t length = header.size();
  ComponentWeights weights{.folder = "unet", .files = {}};
  weights.files.push_back(
      SafetensorsFile::Open(
          folder.Write("weights.safetensors",
                       absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&length), 8),
                                    header, "12345678")))
          .value());
  WeightLoader loader(weights, {});
  loader.Take("weight", {1});
  EXPECT_THAT(std::string(std::move(loader).Finish().message()),
              HasSubstr("weight has integers, needed fractions"));
}

TEST(WeightLoader, NamesATensorThatOverflowsTheComputeType) {
  const Component component({{"weight", {2}, 1e6f}});
  WeightLoader loader(component.weights, {.dtype = at::kHalf});
  loader.Take("weight", {2});
  EXPECT_THAT(std::string(std::move(loader).Finish().message()), HasSubstr("not finite: weight"));
}

TEST(WeightLoader, NamesATensorThatRoundsToInfinity) {
  const float largest = std::bit_cast<float>(0x7f7f7fff);  // that rounds to a number in bfloat16
  const Component component({{"large.weight", {2}, -largest},
                             {"larger.weight", {2}, std::nextafter(largest, INFINITY)},
                             {"nan.weight", {2}, std::bit_cast<float>(0x7fffffff)}});
  WeightLoader loader(component.weights, {.dtype = at::kBFloat16});
  for (const char* name : {"large.weight", "larger.weight", "nan.weight"}) loader.Take(name, {2});
  EXPECT_THAT(std::string(std::move(loader).Finish().message()),
              HasSubstr("not finite: larger.weight, nan.weight"));
}

TEST(WeightLoader, FindsOneBadValueAnywhereInALargeTensor) {
  constexpr int64_t kCount = 100'000;
  const std::vector<int64_t> shape = {25, 400, 2, 5};
  const Component component({{"first", {1}}, {"weight", shape}});
  for (const int64_t place : {int64_t{0}, kCount / 2, kCount - 1}) {
    std::fstream file(component.weights.files[0].path(),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-4 * (kCount - place), std::ios::end);
    const float infinity = INFINITY, one = 1;
    file.write(reinterpret_cast<const char*>(&infinity), 4).flush();
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      for (const auto take : {&WeightLoader::Take, &WeightLoader::TakeKernels}) {
        WeightLoader loader(component.weights, {.dtype = type});
        loader.Take("first", {1});
        (loader.*take)("weight", shape);
        EXPECT_FALSE(std::move(loader).Finish().ok()) << place;
      }
    }
    file.seekp(-4, std::ios::cur);
    file.write(reinterpret_cast<const char*>(&one), 4).flush();
  }
}

TEST(WeightLoader, ABadTensorReadsAsZerosSoThatLoadingGoesOn) {
  const Component component({{"weight", {2, 3}}});
  WeightLoader loader(component.weights, {});
  EXPECT_TRUE(at::equal(loader.Take("weight", {5}), at::full({5}, 0.0f)));
}

TEST(WeightLoader, AcceptsAMatrixStoredAsA1x1Convolution) {
  const Component component(
      {{"stored_as_convolution", {2, 3, 1, 1}}, {"stored_as_matrix", {2, 3}}});
  WeightLoader loader(component.weights, {});
  EXPECT_EQ(loader.Take("stored_as_convolution", {2, 3}).sizes(), at::IntArrayRef({2, 3}));
  EXPECT_EQ(loader.Take("stored_as_matrix", {2, 3, 1, 1}).sizes(), at::IntArrayRef({2, 3, 1, 1}));
  EXPECT_TRUE(std::move(loader).Finish().ok());
}

TEST(WeightLoader, IgnoresPositionIdsAndIgnoredPrefixes) {
  const Component component(
      {{"vision_model.embeddings.position_ids", {1, 5}}, {"encoder.conv_in.bias", {4}}});
  WeightLoader loader(component.weights, {});
  loader.IgnorePrefix("encoder.");
  EXPECT_TRUE(std::move(loader).Finish().ok());
}

TEST(WeightScope, WalksTheTreeOfNames) {
  const Component component({{"down_blocks.0.resnets.1.conv1.bias", {4}}});
  WeightLoader loader(component.weights, {});
  const WeightScope conv = WeightScope(loader)["down_blocks"][0]["resnets"][1]["conv1"];
  EXPECT_TRUE(conv.Has("bias"));
  conv.Take("bias", {4});
  EXPECT_TRUE(std::move(loader).Finish().ok());
}

}  // namespace
}  // namespace image_variations
