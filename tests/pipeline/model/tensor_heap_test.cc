#include "pipeline/model/tensor_heap.h"

#include <sys/mman.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace image_variations {
namespace {

constexpr size_t kMegabyte = size_t{1} << 20;
constexpr size_t kMuch = size_t{1} << 30;

char* Take(TensorHeap& heap, size_t bytes) {
  char* const block = static_cast<char*>(heap.Take(bytes));
  EXPECT_NE(block, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % TensorHeap::kAlignment, 0u);
  std::memset(block, 1, bytes);
  return block;
}

size_t ResidentBytes(char* begin, size_t bytes) {
  constexpr size_t kPage = 4096;
  std::vector<unsigned char> pages(bytes / kPage);
  EXPECT_EQ(mincore(begin, bytes, pages.data()), 0);
  size_t resident = 0;
  for (const unsigned char page : pages) resident += (page & 1) * kPage;
  return resident;
}

TEST(TensorHeap, TakesTheLowestPlaceThatHasRoom) {
  TensorHeap heap(kMuch);
  char* const first = Take(heap, 3 * kMegabyte);
  char* const second = Take(heap, kMegabyte);
  char* const third = Take(heap, kMegabyte);
  EXPECT_EQ(second, first + 3 * kMegabyte);
  EXPECT_EQ(third, second + kMegabyte);
  ASSERT_TRUE(heap.GiveBack(first));
  EXPECT_EQ(Take(heap, 4 * kMegabyte), third + kMegabyte);
  EXPECT_EQ(Take(heap, 2 * kMegabyte), first);
  EXPECT_EQ(Take(heap, kMegabyte), first + 2 * kMegabyte);
}

TEST(TensorHeap, NeighboursBecomeOneInAnyOrder) {
  for (const std::vector<int>& order : {std::vector{0, 1, 2}, {2, 1, 0}, {0, 2, 1}, {1, 0, 2}}) {
    TensorHeap heap(kMuch);
    std::vector<char*> blocks;
    for (int i = 0; i < 4; ++i) blocks.push_back(Take(heap, kMegabyte));
    for (const int i : order) ASSERT_TRUE(heap.GiveBack(blocks[static_cast<size_t>(i)]));
    EXPECT_EQ(heap.kept(), 3 * kMegabyte);
    EXPECT_EQ(Take(heap, 3 * kMegabyte), blocks[0]);
    EXPECT_EQ(heap.kept(), 0u);
  }
}

TEST(TensorHeap, KeepsUpToItsLimitAndReleasesTheHighest) {
  TensorHeap heap(8 * kMegabyte);
  char* const low = Take(heap, 6 * kMegabyte);
  char* const stays = Take(heap, kMegabyte);
  char* const high = Take(heap, 20 * kMegabyte);
  ASSERT_TRUE(heap.GiveBack(high));
  EXPECT_LE(ResidentBytes(stays + kMegabyte, 20 * kMegabyte), 10 * kMegabyte);
  ASSERT_TRUE(heap.GiveBack(low));
  EXPECT_LE(heap.kept(), 10 * kMegabyte);
  EXPECT_GE(ResidentBytes(low, 6 * kMegabyte), 5 * kMegabyte);
  EXPECT_LE(ResidentBytes(stays + kMegabyte, 20 * kMegabyte), 4 * kMegabyte);
  EXPECT_EQ(stays[0], 1);
  EXPECT_EQ(stays[kMegabyte - 1], 1);
}

TEST(TensorHeap, RefusesWhatIsNotItsOwnAndWhatHasNoRoom) {
  TensorHeap heap(kMuch);
  char outside = 0;
  EXPECT_FALSE(heap.GiveBack(&outside));
  EXPECT_FALSE(heap.GiveBack(nullptr));
  char* const block = Take(heap, kMegabyte);
  EXPECT_FALSE(heap.GiveBack(block + TensorHeap::kAlignment));
  EXPECT_EQ(heap.Take(~size_t{0}), nullptr);
  EXPECT_EQ(heap.Take(size_t{1} << 50), nullptr);
  EXPECT_TRUE(heap.GiveBack(block));
  EXPECT_FALSE(heap.GiveBack(block));
}

// Whatever the order: no block touches another, and no release takes what somebody has.
TEST(TensorHeap, BlocksKeepTheirBytesAndNoneIsLost) {
  for (const size_t most_kept : {size_t{0}, 4 * kMegabyte, kMuch}) {
    TensorHeap heap(most_kept);
    std::minstd_rand random(1);
    struct Block {
      size_t bytes;
      char fill;
    };
    std::map<char*, Block> taken;
    const auto give_back = [&](std::map<char*, Block>::iterator block) {
      const auto& [memory, has] = *block;
      EXPECT_EQ(std::count(memory, memory + has.bytes, has.fill), has.bytes);
      EXPECT_TRUE(heap.GiveBack(memory));
      taken.erase(block);
    };
    for (int turn = 0; turn < 3000; ++turn) {
      if (taken.size() < 20 && random() % 2 == 0) {
        const size_t bytes = 1 + random() % (random() % 8 == 0 ? 8 * kMegabyte : kMegabyte / 4);
        char* const memory = static_cast<char*>(heap.Take(bytes));
        ASSERT_NE(memory, nullptr);
        const char fill = static_cast<char>(random() % 127);
        std::memset(memory, fill, bytes);
        ASSERT_TRUE(taken.emplace(memory, Block{bytes, fill}).second);
      } else if (!taken.empty()) {
        give_back(std::next(taken.begin(), static_cast<int>(random() % taken.size())));
      }
      ASSERT_LE(heap.kept(), most_kept + 22 * 2 * kMegabyte);
    }
    char* const lowest = taken.empty() ? nullptr : taken.begin()->first;
    while (!taken.empty()) give_back(taken.begin());
    char* const all = static_cast<char*>(heap.Take(60 * kMegabyte));
    EXPECT_TRUE(lowest == nullptr || all <= lowest) << "nothing is left between";
  }
}

}  // namespace
}  // namespace image_variations
