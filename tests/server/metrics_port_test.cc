#include "server/metrics_port.h"

#include <array>

#include "gtest/gtest.h"

namespace image_variations {
namespace {

// As much as CUDA's libraries have: glibc takes it out of every thread's stack.
thread_local std::array<char, 128 << 10> of_every_thread{1};

TEST(MetricsPort, OpensInAProcessWithLargeThreadLocalMemory) {
  ASSERT_EQ(of_every_thread[0], 1);
  const auto port = MetricsPort::Open("127.0.0.1:0", std::make_shared<prometheus::Registry>());
  ASSERT_TRUE(port.ok()) << port.status();
  EXPECT_NE(port->address(), "127.0.0.1:0");
}

}  // namespace
}  // namespace image_variations
