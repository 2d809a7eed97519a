// The real engine in a world of its own: a virtual clock, fake networks, seeded arrivals and
// faults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace image_variations {

struct SimulationOptions {
  uint64_t seed = 1;
  int jobs = 12;
  bool mixed_sizes = false;  // several latent sizes: some calls cannot be filled
  bool faults = false;  // out of memory, failing stages, samples that are not finite, a full line
  bool device_loss = false;  // the device goes away in the middle
};

struct SimulationReport {
  std::optional<std::string>
      breach;  // the first invariant that did not hold, with the tick and what happened in it
  int ticks = 0;
  int samples_generated = 0;
  int samples_ended_otherwise = 0;
};

// Plays one world to its end and checks after each tick:
//   every sample is answered exactly once, its job's end once and last; a picture has the bytes
//   that it has alone; steps run in order, on one slot each; nothing runs after its deadline or
//   cancellation; the most urgent sample is in every call, and no row stays free that a sample
//   could have taken; in the end everything taken was given back.
SimulationReport Simulate(const SimulationOptions&);

}  // namespace image_variations
