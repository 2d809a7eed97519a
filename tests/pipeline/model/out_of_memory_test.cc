// Memory runs out while tensors are taken out of a checkpoint. What networks make of them is
// LibTorch's: its oneDNN does not survive an allocation that fails while weights are packed.
#include "gtest/gtest.h"
#include "pipeline/model/torch_guard.h"
#include "pipeline/model/weight_loader.h"
#include "tests/support/every_allocation.h"

namespace image_variations {
namespace {

absl::Status TakeAll(const ComponentWeights& weights, at::ScalarType dtype) {
  return GuardTorch("loading", [&] {
    WeightLoader loader(weights, {.dtype = dtype});
    for (const std::string& name : weights.names()) {
      loader.Take(name, weights.Find(name).value().shape);
    }
    return std::move(loader).Finish();
  });
}

class OutOfMemory : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(OutOfMemory, WhileTakingTheTensorsOfACheckpoint) {
  const ModelDir dir = ModelDir::Open("demo/model").value();
  ExpectAStatusAtEveryAllocation([&] { return TakeAll(dir.vae_weights, GetParam()); });
}

INSTANTIATE_TEST_SUITE_P(MappedAndConverted, OutOfMemory,
                         ::testing::Values(at::kFloat, at::kBFloat16));

}  // namespace
}  // namespace image_variations
