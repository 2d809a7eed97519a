// The networks on LibTorch. No ATen in this header: it is what server/main.cc sees of
// pipeline/model.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/engine/model_runner.h"

namespace image_variations {

struct TorchModelRunnerOptions {
  std::string device = "auto";  // "cpu", "cuda:N"; "auto": the first GPU, else the CPU
  std::string dtype = "auto";   // "fp32", "bf16", "fp16"; "auto": fp16 on a GPU, fp32 on the CPU
  int threads = 0;              // of one operation on the CPU; 0 = number of cores ...
  int cpu_runners = 1;          // ... divided by that of the runners on them
  double gpu_memory = 1;        // largest share of a GPU's memory
  int max_slots = 32;
  int max_rows = 16;
  bool previews = false;  // a few small pictures are decoded at the start
};

// Loads all networks onto the device. Call on the engine thread, where the runner will live: thread
// count and inference mode of LibTorch belong to a thread. INVALID_ARGUMENT names every missing,
// extra, misshapen or non-finite tensor; NOT_FOUND: no such device.
absl::StatusOr<std::unique_ptr<ModelRunner>> MakeTorchModelRunner(const ModelDir&,
                                                                  const TorchModelRunnerOptions&);

}  // namespace image_variations
