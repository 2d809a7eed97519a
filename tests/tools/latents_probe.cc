// Runs one sample through the real networks and writes its final latents, which the API does not
// show: raw float32, row-major, (1, channels, height, width). For tools/parity_full.py.
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "ATen/core/Tensor.h"
#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/model_dir.h"
#include "pipeline/image/codec.h"
#include "pipeline/model/network_runner.h"
#include "pipeline/model/torch_model_runner.h"
#include "pipeline/sampler/sampler.h"

namespace image_variations {
namespace {

struct ProbeOptions {
  std::string model, picture, output;
  TorchModelRunnerOptions runner{.device = "cpu", .dtype = "fp32", .max_slots = 1, .max_rows = 2};
  SamplerChoice sampler{.name = "pndm"};
  uint64_t seed = 0;
  float guidance_scale = 3;
  int width = 0;  // pixels; 0 = the model's
  int height = 0;
};

absl::StatusOr<Image> ReadPicture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return DecodeImage(bytes.str(), DecodeLimits{});
}

absl::Status WriteLatents(const at::Tensor& latents, const std::string& path) {
  const at::Tensor values = latents.cpu().contiguous();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.const_data_ptr<float>()),
             static_cast<std::streamsize>(values.nbytes()));
  file.close();
  return file ? absl::OkStatus() : absl::InternalError(absl::StrCat("cannot write ", path));
}

absl::Status Probe(const ProbeOptions& options) {
  ASSIGN_OR_RETURN(const Image picture, ReadPicture(options.picture));
  ASSIGN_OR_RETURN(const ModelDir dir, ModelDir::Open(options.model));
  ASSIGN_OR_RETURN(const SamplerPlan plan, MakeSamplerPlan(dir.sampler, options.sampler));
  ASSIGN_OR_RETURN(const auto runner, MakeTorchModelRunner(dir, options.runner));

  const ModelInfo& info = runner->info();
  const int width = options.width > 0 ? options.width : info.default_width;
  const int height = options.height > 0 ? options.height : info.default_height;
  constexpr JobId kJob{1};
  RETURN_IF_ERROR(runner->EmbedImage(kJob, picture, Preprocessing::kModelCard));
  RETURN_IF_ERROR(runner->PrepareLatents({{.slot = 0,
                                           .seed = options.seed,
                                           .latent_width = width / info.latent_factor,
                                           .latent_height = height / info.latent_factor,
                                           .init_noise_sigma = plan.init_noise_sigma}}));
  for (const SamplerStep& step : plan.steps) {
    const StepRow row{
        .slot = 0, .job = kJob, .step = &step, .guidance_scale = options.guidance_scale};
    RETURN_IF_ERROR(runner->Denoise({row}, RowsPerStep(options.guidance_scale)).status());
  }
  // The factory makes no other runner.
  return WriteLatents(static_cast<const NetworkRunner&>(*runner).latents(0), options.output);
}

int Main(int argc, char** argv) {
  ProbeOptions options;
  CLI::App app("Writes the final latents of one sample as raw float32.");
  app.add_option("--model", options.model)->required();
  app.add_option("--picture", options.picture)->required();
  app.add_option("--output", options.output)->required();
  app.add_option("--seed", options.seed);
  app.add_option("--steps", options.sampler.num_inference_steps);
  app.add_option("--sampler", options.sampler.name);
  app.add_option("--guidance", options.guidance_scale);
  app.add_option("--width", options.width);
  app.add_option("--height", options.height);
  app.add_option("--threads", options.runner.threads);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Probe(options);
  if (!status.ok()) std::cerr << "latents_probe: " << status.ToString() << "\n";
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace image_variations

int main(int argc, char** argv) { return image_variations::Main(argc, argv); }
