// What the networks cost on this machine: one UNet step, one VAE decode, one image embedding.
//
//   networks_bench --model=demo/model --dtype=fp32 --threads=2 [--benchmark_filter=...]
//   networks_bench --model=... --paced   runs the case named by each line of standard input once
//                                        and prints its seconds and CPU seconds, to take turns with
//                                        peers
//   networks_bench --model=... --compare   eight samples and fewer in a UNet call of half the
//                                          model's side: does any have other bits than alone?
//   networks_bench --whole-batches ...   every operation over the whole batch, whatever that does
//                                        to a row's bytes

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/randn.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "benchmark/benchmark.h"
#include "c10/core/InferenceMode.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/model/kept_memory.h"
#include "pipeline/model/networks.h"

namespace image_variations {
namespace {

struct Options {
  std::string model = "demo/model";
  std::string dtype = "fp32";
  int threads = 2;
  bool paced = false;
  bool compare = false;
  RowInvariance::Policy batches = RowInvariance::Policy::kRowsAsAlone;
};

using Case = std::pair<std::string, std::function<void()>>;

Options ReadOptions(int* argc, char** argv) {
  Options options;
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    absl::string_view flag = argv[i];
    if (absl::ConsumePrefix(&flag, "--model=")) {
      options.model = std::string(flag);
    } else if (absl::ConsumePrefix(&flag, "--dtype=")) {
      options.dtype = std::string(flag);
    } else if (absl::ConsumePrefix(&flag, "--threads=")) {
      if (!absl::SimpleAtoi(flag, &options.threads)) options.threads = 1;
    } else if (flag == "--paced") {
      options.paced = true;
    } else if (flag == "--compare") {
      options.compare = true;
    } else if (flag == "--whole-batches") {
      options.batches = RowInvariance::Policy::kWholeBatches;
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  return options;
}

int64_t LatentFactor(const Networks& networks) {
  return int64_t{1} << (networks.vae.up_blocks.size() - 1);
}

// Of `samples` samples, each of two rows if it is guided.
struct UnetInputs {
  const Unet& unet;
  int64_t rows_each;
  at::Tensor latents, time_biases, context;

  // `height` and `width` of the picture.
  static UnetInputs Random(const Networks& networks, int height, int width, bool guided,
                           int samples) {
    const Unet& unet = networks.unet;
    const int64_t rows_each = guided ? 2 : 1;
    const int64_t factor = LatentFactor(networks);
    const at::TensorOptions options(networks.placement.dtype);
    return {.unet = unet,
            .rows_each = rows_each,
            .latents = at::randn(
                {samples, unet.config.in_channels, height / factor, width / factor}, options),
            .time_biases = unet.TimeBiases(500).repeat({samples, 1}),
            .context = at::randn({samples * rows_each, unet.context_width}, options)};
  }

  at::Tensor Forward(int64_t first, int64_t count) const {
    return unet.Forward(latents.narrow(0, first, count), time_biases.narrow(0, first, count),
                        context.narrow(0, first * rows_each, count * rows_each),
                        at::arange(count, at::kLong).repeat_interleave(rows_each));
  }
};

std::string NameOf(int height, int width, bool guided, int samples) {
  const std::string company = samples == 1 ? "" : absl::StrCat(samples, "-");
  return absl::StrCat("unet/", company, guided ? "guided/" : "unguided/", height, "x", width);
}

Case UnetStep(const Networks& networks, int height, int width, bool guided, int samples = 1) {
  const UnetInputs inputs = UnetInputs::Random(networks, height, width, guided, samples);
  return {NameOf(height, width, guided, samples), [=] { inputs.Forward(0, samples); }};
}

Case VaeDecode(const Networks& networks, int height, int width) {
  const int64_t factor = LatentFactor(networks);
  const at::Tensor latents =
      at::randn({1, networks.unet.config.in_channels, height / factor, width / factor});
  return {absl::StrCat("vae/", height, "x", width),
          [=, &networks] { networks.vae.Forward(latents); }};
}

Case Embed(const Networks& networks) {
  const int64_t size = networks.image_encoder.image_size;
  const at::Tensor pixels = at::randn({1, 3, size, size});
  return {"clip", [=, &networks] { networks.image_encoder.Forward(pixels); }};
}

// What ScoreImages has the networks do for one picture.
Case Score(const Networks& networks) {
  const int64_t size = networks.image_encoder.image_size;
  const at::Tensor pixels = at::randn({1, 3, size, size});
  return {"safety", [=, &networks] {
            if (const auto& checker = networks.safety_checker) {
              checker->Score(checker->vision_model.Forward(pixels));
              if (networks.is_one_tower) return;
            }
            networks.image_encoder.Forward(pixels);
          }};
}

std::vector<Case> Cases(const Networks& networks, int side) {
  std::vector<Case> cases = {UnetStep(networks, side, side, true),
                             UnetStep(networks, side, side, false),
                             UnetStep(networks, side, side, true, 8),
                             UnetStep(networks, side / 2, side / 2, true),
                             UnetStep(networks, side * 3 / 4, side * 5 / 4, true),
                             UnetStep(networks, side * 3 / 2, side * 3 / 2, true),
                             VaeDecode(networks, side, side),
                             Embed(networks),
                             Score(networks)};
  return cases;
}

// UNet steps of two rows and more, at the model's side and half of it.
std::vector<Case> CasesOfManyRows(const Networks& networks, int side) {
  std::vector<Case> cases = {UnetStep(networks, side / 2, side / 2, false),
                             UnetStep(networks, side / 2, side / 2, true, 8)};
  for (int rows = 2; rows <= 8; ++rows) {
    cases.push_back(UnetStep(networks, side, side, false, rows));
    cases.push_back(UnetStep(networks, side / 2, side / 2, false, rows));
  }
  return cases;
}

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

int RunPaced(const std::vector<Case>& cases) {
  std::puts("ready");
  std::fflush(stdout);
  for (std::string name; std::getline(std::cin, name);) {
    const auto found = std::ranges::find(cases, name, &Case::first);
    if (found == cases.end()) {
      std::fprintf(stderr, "there is no case %s\n", name.c_str());
      return 1;
    }
    const auto began = std::chrono::steady_clock::now();
    const double cpu = CpuSeconds();
    found->second();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - began;
    std::printf("%.6f %.6f\n", wall.count(), CpuSeconds() - cpu);
    std::fflush(stdout);
  }
  return 0;
}

// Each sample of a call beside the same sample in a call of its own. Returns 1 if any differs.
int CompareCompanies(const Networks& networks, int side) {
  bool is_same = true;
  for (const bool guided : {true, false}) {
    for (const int samples : {8, 7, 5, 3, 2}) {
      const UnetInputs inputs = UnetInputs::Random(networks, side, side, guided, samples);
      const at::Tensor together = inputs.Forward(0, samples);
      int differing = 0;
      for (int sample = 0; sample < samples; ++sample) {
        const at::Tensor alone = inputs.Forward(sample, 1);
        if (!at::equal(alone, together.narrow(0, sample * alone.size(0), alone.size(0)))) {
          ++differing;
        }
      }
      std::printf("%s: %d of %d samples have other bits than alone\n",
                  NameOf(side, side, guided, samples).c_str(), differing, samples);
      is_same = is_same && differing == 0;
    }
  }
  return is_same ? 0 : 1;
}

int Main(int argc, char** argv) {
  const Options options = ReadOptions(&argc, argv);
  benchmark::Initialize(&argc, argv);
  KeepTensorMemory();
  const c10::InferenceMode inference_mode;
  at::set_num_threads(options.threads);
  const auto dir = ModelDir::Open(options.model);
  if (!dir.ok()) {
    std::fprintf(stderr, "%s\n", std::string(dir.status().message()).c_str());
    return 1;
  }
  RowInvariance rows(options.batches);
  const auto began = std::chrono::steady_clock::now();
  const auto networks = LoadNetworks(
      *dir, {.dtype = options.dtype == "bf16" ? at::kBFloat16 : at::kFloat, .rows = &rows});
  if (!networks.ok()) {
    std::fprintf(stderr, "%s\n", std::string(networks.status().message()).c_str());
    return 1;
  }
  const std::chrono::duration<double> loading = std::chrono::steady_clock::now() - began;
  std::fprintf(stderr, "%s %s, %d threads, loaded in %.1f s\n", options.model.c_str(),
               options.dtype.c_str(), options.threads, loading.count());
  const int side = dir->unet.sample_size * dir->vae.factor();
  if (options.compare) return CompareCompanies(*networks, side / 2);
  std::vector<Case> cases = Cases(*networks, side);
  if (options.paced) {
    for (Case& one : CasesOfManyRows(*networks, side)) cases.push_back(std::move(one));
    return RunPaced(cases);
  }
  for (const auto& [name, run] : cases) {
    benchmark::RegisterBenchmark(name.c_str(),
                                 [&run = run](benchmark::State& state) {
                                   run();
                                   for (auto _ : state) run();
                                 })
        ->Unit(benchmark::kMillisecond)
        ->MeasureProcessCPUTime()
        ->UseRealTime();
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) { return image_variations::Main(argc, argv); }
