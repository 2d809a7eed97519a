#include "pipeline/model/torch_guard.h"

#include <new>
#include <stdexcept>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

using testing::HasSubstr;

c10::SourceLocation Here() { return {__func__, __FILE__, __LINE__}; }

template <typename Error>
absl::Status Thrown(Error error) {
  return GuardTorch("denoising", [&]() -> absl::Status { throw error; });
}

absl::Status DeviceError(int32_t code) {
  return Thrown(c10::AcceleratorError(Here(), code, "CUDA error"));
}

TEST(TorchGuard, ADeviceIsGoneAfterEachOfTheErrorsThatEndAProcess) {
  for (const int32_t code :
       {214, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911}) {
    const absl::Status status = DeviceError(code);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(code)));
  }
}

TEST(TorchGuard, AnotherDeviceErrorFailsTheCallAlone) {
  for (const int32_t code : {1, 9, 98, 209, 400, 901}) {
    EXPECT_TRUE(absl::IsInternal(DeviceError(code))) << code;
  }
}

TEST(TorchGuard, TooLittleMemoryIsResourceExhaustedWhoeverSaysSo) {
  EXPECT_TRUE(absl::IsResourceExhausted(
      Thrown(c10::OutOfMemoryError(Here(), "CUDA out of memory. Tried to allocate 2.00 GiB"))));
  EXPECT_TRUE(absl::IsResourceExhausted(
      Thrown(c10::Error(Here(), "DefaultCPUAllocator: can't allocate memory"))));
  EXPECT_TRUE(absl::IsResourceExhausted(Thrown(std::bad_alloc())));
  // cudaErrorMemoryAllocation, from a call outside LibTorch's allocator.
  EXPECT_TRUE(absl::IsResourceExhausted(DeviceError(2)));
}

TEST(TorchGuard, AnythingElseIsInternalWithItsStage) {
  EXPECT_EQ(Thrown(std::runtime_error("shape")), absl::InternalError("denoising: shape"));
}

}  // namespace
}  // namespace image_variations
