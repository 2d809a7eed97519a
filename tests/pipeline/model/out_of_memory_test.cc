// Memory runs out at every allocation in turn: while tensors are taken out of a checkpoint, and in
// attention. What networks make of them else is LibTorch's: its oneDNN does not survive an
// allocation that fails while weights are packed.
#include "ATen/Parallel.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "gtest/gtest.h"
#include "pipeline/model/attention.h"
#include "pipeline/model/kept_memory.h"
#include "pipeline/model/torch_guard.h"
#include "pipeline/model/weight_loader.h"
#include "tests/support/every_allocation.h"

namespace image_variations {
namespace {

using absl::StatusCode;

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

// Of more than one block of keys and of queries; this thread, whose allocations fail, is one of
// two.
class Attention {
 public:
  explicit Attention(at::ScalarType dtype)
      : projected_(at::full({2, 600, 3 * 64}, 0.5f, dtype)), whole_(Attend(projected_, kHeads)) {
    at::set_num_threads(2);
  }

  absl::Status Run() const {
    return GuardTorch("attention", [&] {
      return at::equal(Attend(projected_, kHeads), whole_) ? absl::OkStatus()
                                                           : absl::InternalError("other values");
    });
  }

 private:
  static constexpr int64_t kHeads = 2;
  const at::Tensor projected_, whole_;
};

TEST_P(OutOfMemory, InAttention) {
  const Attention attention(GetParam());
  ExpectAStatusAtEveryAllocation([&] { return attention.Run(); });
}

// As in the server. For the rest of the process, so these come last.
TEST_P(OutOfMemory, InAttentionWhoseMemoryIsKept) {
  KeepTensorMemory();
  const Attention attention(GetParam());
  ASSERT_EQ(attention.Run(), absl::OkStatus());
  AllocationCounts counts{.failed = true};
  int64_t failed = 0;
  for (; counts.failed; ++failed) {
    absl::Status status;
    counts = RunWithFailingMalloc(failed + 1, [&] { status = attention.Run(); });
    EXPECT_EQ(status.code(), counts.failed ? StatusCode::kResourceExhausted : StatusCode::kOk)
        << status << " at allocation " << failed + 1;
  }
  EXPECT_GT(failed, 1);
}

TEST_P(OutOfMemory, ForATensorThatNoMachineHasRoomFor) {
  KeepTensorMemory();
  const absl::Status status = GuardTorch("a tensor", [] {
    at::empty({int64_t{1} << 50}, GetParam());
    return absl::OkStatus();
  });
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
}

INSTANTIATE_TEST_SUITE_P(MappedAndConverted, OutOfMemory,
                         ::testing::Values(at::kFloat, at::kBFloat16));

}  // namespace
}  // namespace image_variations
