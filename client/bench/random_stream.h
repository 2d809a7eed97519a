// Random numbers that are the same on every machine and for ever, which neither <random>'s
// distributions nor Abseil's generators promise.
#pragma once

#include <cstddef>
#include <cstdint>

namespace image_variations::client {

// What a number is drawn for: streams of one seed do not touch each other.
enum class Purpose : uint64_t { kArrivals = 1, kMix, kChoice, kRetries, kCancels };

// SplitMix64 (Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators, 2014).
class RandomStream {
 public:
  RandomStream(uint64_t seed, Purpose purpose)
      : state_(Mix(seed) ^ Mix(~static_cast<uint64_t>(purpose))) {}

  uint64_t Next() { return Mix(state_ += 0x9e37'79b9'7f4a'7c15); }
  double NextUnit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)
  size_t NextIndex(size_t count) {
    return static_cast<size_t>(NextUnit() * static_cast<double>(count));
  }

 private:
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11eb;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

}  // namespace image_variations::client
