// The real engine in a world of its own: a virtual clock, fake networks, seeded arrivals and
// faults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace image_variations {

struct SimulationOptions {
  uint64_t seed = 1;
  int jobs = 12;
  bool mixed_sizes = false;  // several latent sizes: some calls cannot be filled
  bool faults = false;  // out of memory, failing stages, samples that are not finite, a full line
  bool device_loss = false;  // the device goes away in the middle
  // Calls, pictures and embeddings cost in proportion, and are known from a warm-up: company may
  // make the urgent late.
  bool costly = false;
  std::vector<int> row_buckets;  // of a device whose calls are padded
  bool flood = false;            // one caller asks for much at once, others come for one job each
  bool previews = false;         // pictures are not checked, and shown while they are made
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
// Costly: in place of free rows, company, embeddings and decodes make nobody late who is the most
// urgent of a call and in time alone. Buckets: calls have their row counts, and fewer rows after
// one that had no memory. Flood: a few jobs of the flood begin before somebody else's at most.
// Previews: they come after each interval of steps, and where pictures are checked not at all.
SimulationReport Simulate(const SimulationOptions&);

}  // namespace image_variations
