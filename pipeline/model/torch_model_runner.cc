#include "pipeline/model/torch_model_runner.h"

#include <algorithm>
#include <future>

#include "ATen/Context.h"
#include "ATen/Parallel.h"
#include "ATen/Version.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/row_buckets.h"
#include "pipeline/model/device.h"
#include "pipeline/model/kept_memory.h"
#include "pipeline/model/network_runner.h"
#include "pipeline/model/self_test.h"
#include "pipeline/model/torch_guard.h"
#include "torch/version.h"

namespace image_variations {
namespace {

absl::StatusOr<at::Device> ParseDevice(const std::string& name) {
  const int gpus = at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
  if (name == "cpu" || (name == "auto" && gpus == 0)) return at::Device(at::kCPU);
  if (name == "auto") return at::Device(at::kCUDA, 0);
  absl::string_view rest = name;
  int index = 0;
  if (!absl::ConsumePrefix(&rest, "cuda:") || !absl::SimpleAtoi(rest, &index) || index < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is \"", name, "\", needed cpu, cuda:N or auto"));
  }
  if (index >= gpus) {
    return absl::NotFoundError(absl::StrCat("no device ", name, ": LibTorch ", TORCH_VERSION,
                                            " sees ", gpus, " GPUs; ", WhyNoGpu()));
  }
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

absl::StatusOr<at::ScalarType> ParseDtype(const std::string& name, const at::Device& device) {
  if (name == "auto") return device.is_cpu() ? at::kFloat : at::kHalf;
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16") return at::kHalf;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype is \"", name, "\", needed fp32, bf16, fp16 or auto"));
}

std::string NameOf(at::ScalarType dtype) {
  return dtype == at::kFloat ? "fp32" : dtype == at::kHalf ? "fp16" : "bf16";
}

// These belong to the calling thread or to the process; the engine thread is both callers' own.
void SetUpLibTorch(int threads) {
  KeepTensorMemory();
  at::set_num_threads(threads);
  at::globalContext().setBenchmarkCuDNN(false);  // picks kernels by timing: not reproducible
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
}

// FNV-1a, 64 bits: names a combination, does not defend it.
std::string ShortHash(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : text) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  return absl::StrFormat("%016x", hash);
}

using Digests = std::map<std::string, std::string>;

// Everything that the bytes of a picture depend on, beside its request.
std::string Fingerprint(const Digests& digests, const ModelInfo& info,
                        const std::string& device_model, int threads) {
  std::string parts;
  for (const auto& [component, digest] : digests) {
    absl::StrAppend(&parts, component, "=", digest, ";");
  }
  // The kind of the device and not its number: of equal ones it does not matter which.
  const std::string kind = absl::StartsWith(info.device, "cuda") ? "cuda" : info.device;
  absl::StrAppend(&parts, kind, device_model, ";", info.dtype, ";", threads, ";", TORCH_VERSION,
                  ";", at::get_cpu_capability(), ";", IV_VERSION);
  return ShortHash(parts);
}

// ComponentDigests, by a thread of LibTorch's pool.
std::future<absl::StatusOr<Digests>> StartDigests(const ModelDir& dir) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<Digests>>>();
  at::launch([promise, dir] { promise->set_value(ComponentDigests(dir)); });
  return promise->get_future();
}

ModelInfo Describe(const ModelDir& dir, const Networks& networks, int max_rows) {
  const Placement& placement = networks.placement;
  ModelInfo info;
  info.model_id = dir.model_id;
  info.revision = dir.revision;
  info.device = placement.device.str();
  info.dtype = NameOf(placement.dtype);
  info.has_safety_checker = dir.safety_checker.has_value();
  info.has_one_tower = networks.is_one_tower || !networks.safety_checker;
  info.sampler = dir.sampler;
  info.latent_factor = dir.vae.factor();
  info.default_width = info.default_height = dir.unet.sample_size * info.latent_factor;
  if (!placement.device.is_cpu()) info.row_buckets = RowBuckets(max_rows);
  return info;
}

absl::StatusOr<Placement> Place(const TorchModelRunnerOptions& options) {
  Placement placement;
  ASSIGN_OR_RETURN(placement.device, ParseDevice(options.device));
  UseOwnStream(placement.device);
  LimitMemory(placement.device, options.gpu_memory);
  ASSIGN_OR_RETURN(placement.dtype, ParseDtype(options.dtype, placement.device));
  return placement;
}

using Runner = std::unique_ptr<NetworkRunner>;

// Without its identity.
absl::StatusOr<Runner> LoadAndTest(const ModelDir& dir, Placement placement,
                                   const TorchModelRunnerOptions& options) {
  const auto load = [&]() -> absl::StatusOr<Runner> {
    auto rows = std::make_unique<RowInvariance>(placement.device.is_cpu()
                                                    ? RowInvariance::Policy::kRowsAsAlone
                                                    : RowInvariance::Policy::kWholeBatches);
    placement.rows = rows.get();
    ASSIGN_OR_RETURN(Networks networks, LoadNetworks(dir, placement));
    ModelInfo info = Describe(dir, networks, options.max_rows);
    return std::make_unique<NetworkRunner>(std::move(networks), std::move(rows), std::move(info),
                                           options.max_slots);
  };
  ASSIGN_OR_RETURN(Runner runner, GuardTorch("loading the model", load));
  ASSIGN_OR_RETURN(SelfTestResult result,
                   RunSelfTest(*runner, options.max_slots, options.max_rows));
  runner->SetSelfTest(std::move(result));
  if (options.previews) RETURN_IF_ERROR(runner->FitPreviews());
  return runner;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRunner>> MakeTorchModelRunner(
    const ModelDir& dir, const TorchModelRunnerOptions& options) {
  const int share = at::intraop_default_num_threads() / std::max(1, options.cpu_runners);
  const int threads = options.threads > 0 ? options.threads : std::max(1, share);
  std::string device_model;
  std::future<absl::StatusOr<Digests>> computed;
  const auto begin = [&]() -> absl::StatusOr<Placement> {
    SetUpLibTorch(threads);
    ASSIGN_OR_RETURN(const Placement placement, Place(options));
    device_model = DeviceModel(placement.device);
    computed = StartDigests(dir);
    return placement;
  };
  ASSIGN_OR_RETURN(const Placement placement, GuardTorch("setting up LibTorch", begin));
  absl::StatusOr<Runner> runner = LoadAndTest(dir, placement, options);
  // First: a file that differs from the manifest is a better reason than what it breaks.
  ASSIGN_OR_RETURN(const Digests digests, computed.get());
  RETURN_IF_ERROR(runner.status());
  (*runner)->SetIdentity(digests, Fingerprint(digests, (*runner)->info(), device_model, threads));
  return runner;
}

}  // namespace image_variations
