#include "pipeline/model/network_runner.h"

#include <algorithm>
#include <cmath>

#include "ATen/CPUGeneratorImpl.h"
#include "ATen/TensorOperators.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/isfinite.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/round.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/tensor.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/non_finite.h"
#include "pipeline/model/device.h"
#include "pipeline/model/preprocessing.h"
#include "pipeline/model/torch_guard.h"
#include "pipeline/sampler/noise_schedule.h"

namespace image_variations {
namespace {

// PNDM at 50 steps has 50; 256 of a full-size UNet take 18 MB.
constexpr size_t kMaxTimestepsKept = 256;

const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

bool IsFinite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

// Pixels of about -1 to 1, (1, 3, h, w), clamped and rounded half to even.
Image ToImage(const at::Tensor& pixels) {
  const at::Tensor unit = (pixels / 2 + 0.5).clamp(0, 1);
  const at::Tensor bytes =
      ToHost(at::round(unit.to(at::kFloat) * 255).to(at::kByte).permute({0, 2, 3, 1}).contiguous());
  Image image{static_cast<int>(bytes.size(2)), static_cast<int>(bytes.size(1)), {}};
  const uint8_t* first = bytes.const_data_ptr<uint8_t>();
  image.rgb.assign(first, first + bytes.numel());
  return image;
}

}  // namespace

NetworkRunner::NetworkRunner(Networks networks, std::unique_ptr<RowInvariance> rows, ModelInfo info,
                             int max_slots)
    : networks_(std::move(networks)),
      rows_(std::move(rows)),
      info_(std::move(info)),
      max_slots_(max_slots),
      unet_calls_(networks_.placement.device.is_cpu() ? CallRecorder::Factory()
                                                      : [device = networks_.placement.device] {
                                                          return MakeRecordedCall(device);
                                                        }) {}

// GuardTorch; after a call that found too little memory some is given back, as a smaller one may
// follow.
template <typename Body>
auto NetworkRunner::Guard(absl::string_view stage, Body body) -> decltype(std::declval<Body>()()) {
  auto result = GuardTorch(stage, std::move(body));
  if (absl::IsResourceExhausted(StatusOf(result))) {
    unet_calls_.Clear();
    ReleaseCachedMemory(networks_.placement.device);
  }
  return result;
}

absl::Status NetworkRunner::EmbedImage(JobId job, const Image& source,
                                       Preprocessing preprocessing) {
  return Guard("embedding the image", [&]() -> absl::Status {
    const PreprocessorConfig& config = networks_.preprocessor;
    EmbeddedJob embedded;
    const int size = networks_.image_encoder.image_size;
    embedded.clip_embeds = Embed(PreprocessAsClip(source, config));
    embedded.image_embeds = preprocessing == Preprocessing::kClipProcessor
                                ? embedded.clip_embeds
                                : Embed(PreprocessAsModelCard(source, size, config));
    embedded.context = networks_.unet.Context(embedded.image_embeds);
    if (!IsFinite(embedded.clip_embeds) || !IsFinite(embedded.context)) {
      return NonFiniteError("embed");
    }
    jobs_.insert_or_assign(job, std::move(embedded));
    return absl::OkStatus();
  });
}

void NetworkRunner::ConditionAtRandom(JobId job) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  EmbeddedJob embedded;
  embedded.image_embeds = DrawNoise(generator, {1, networks_.unet.config.cross_attention_dim})
                              .to(networks_.placement.dtype);
  embedded.context = networks_.unet.Context(embedded.image_embeds);
  jobs_.insert_or_assign(job, std::move(embedded));
}

absl::Status NetworkRunner::PrepareLatents(absl::Span<const PrepareRow> rows) {
  return Guard("drawing latents", [&]() -> absl::Status {
    std::vector<Slot> prepared;
    for (const PrepareRow& row : rows) {
      if (row.slot < 0 || row.slot >= max_slots_) {
        return absl::InternalError(absl::StrCat("slot ", row.slot, ", limit ", max_slots_));
      }
      Slot slot;
      slot.generator = at::make_generator<at::CPUGeneratorImpl>(row.seed & 0xffffffffu);
      slot.latents = DrawNoise(slot.generator, {1, networks_.unet.config.in_channels,
                                                row.latent_height, row.latent_width}) *
                     row.init_noise_sigma;
      prepared.push_back(std::move(slot));
    }
    for (size_t i = 0; i < rows.size(); ++i) {
      slots_.insert_or_assign(rows[i].slot, std::move(prepared[i]));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<std::vector<bool>> NetworkRunner::Denoise(absl::Span<const StepRow> rows,
                                                         int padded_rows) {
  return Guard("denoising", [&]() -> absl::StatusOr<std::vector<bool>> {
    RETURN_IF_ERROR(CheckRows(rows));
    std::vector<at::Tensor> finite;
    const std::vector<at::Tensor> predictions = PredictNoise(rows, padded_rows);
    std::vector<Slot> advanced;
    for (size_t i = 0; i < rows.size(); ++i) {
      advanced.push_back(Advance(slots_.at(rows[i].slot), *rows[i].step, predictions[i]));
      finite.push_back(at::isfinite(advanced.back().latents).all());
    }
    const at::Tensor are_finite = ToHost(at::stack(finite));  // waits for the device once
    for (size_t i = 0; i < rows.size(); ++i) slots_.at(rows[i].slot) = std::move(advanced[i]);
    const bool* first = are_finite.const_data_ptr<bool>();
    return std::vector<bool>(first, first + rows.size());
  });
}

absl::StatusOr<std::vector<std::optional<Image>>> NetworkRunner::DecodeLatents(
    absl::Span<const SlotId> slots) {
  using Images = std::vector<std::optional<Image>>;
  return Guard("decoding latents", [&]() -> absl::StatusOr<Images> {
    Images images;
    for (const SlotId slot : slots) {
      if (!slots_.contains(slot)) return absl::InternalError(absl::StrCat("no slot ", slot));
      const at::Tensor pixels = networks_.vae.Forward(latents(slot));
      images.push_back(IsFinite(pixels) ? std::optional(ToImage(pixels)) : std::nullopt);
    }
    return images;
  });
}

absl::Status NetworkRunner::FitPreviews() {
  return GuardTorch("fitting previews", [&]() -> absl::Status {
    preview_ = LatentPreview::Fit(networks_.vae, networks_.unet.config.in_channels,
                                  networks_.placement.device);
    alphas_cumprod_ = AlphasCumprod(info_.sampler);
    info_.has_previews = true;
    return absl::OkStatus();
  });
}

absl::StatusOr<std::vector<Image>> NetworkRunner::PreviewLatents(absl::Span<const SlotId> slots) {
  if (!preview_) return absl::UnimplementedError("previews were not asked for at the start");
  return Guard("drawing previews", [&]() -> absl::StatusOr<std::vector<Image>> {
    std::vector<Image> images;
    for (const SlotId id : slots) {
      if (!slots_.contains(id)) return absl::InternalError(absl::StrCat("no slot ", id));
      const Slot& slot = slots_.at(id);
      const auto last = static_cast<double>(alphas_cumprod_.size() - 1);
      const auto timestep = static_cast<size_t>(
          std::clamp(std::round(static_cast<double>(slot.timestep)), 0.0, last));
      const double alpha_cumprod = alphas_cumprod_[timestep];
      const LinearForm original = OriginalSample(
          info_.sampler.prediction_type, {std::sqrt(alpha_cumprod), std::sqrt(1 - alpha_cumprod)});
      images.push_back(preview_->Draw(slot.input, slot.input_scale * original.sample,
                                      slot.prediction, original.prediction));
    }
    return images;
  });
}

absl::StatusOr<std::vector<ImageScores>> NetworkRunner::ScoreImages(
    absl::Span<const ScoreRow> rows) {
  return Guard("scoring images", [&]() -> absl::StatusOr<std::vector<ImageScores>> {
    std::vector<ImageScores> scores;
    for (const ScoreRow& row : rows) {
      const auto job = jobs_.find(row.job);
      if (job == jobs_.end()) return absl::InternalError("scoring for a job without embedding");
      scores.push_back(Score(*row.image, job->second.clip_embeds));
    }
    return scores;
  });
}

void NetworkRunner::Forget(JobId job) { jobs_.erase(job); }

absl::Status NetworkRunner::CheckRows(absl::Span<const StepRow> rows) const {
  if (rows.empty()) return absl::InternalError("a UNet call without rows");
  for (const StepRow& row : rows) {
    if (!slots_.contains(row.slot)) return absl::InternalError(absl::StrCat("no slot ", row.slot));
    if (!jobs_.contains(row.job)) return absl::InternalError("a step of a job without embedding");
    if (latents(row.slot).sizes() != latents(rows[0].slot).sizes()) {
      return absl::InternalError("latents of several sizes in one UNet call");
    }
  }
  return absl::OkStatus();
}

at::Tensor NetworkRunner::Embed(const at::Tensor& pixels) {
  ++tower_runs_;
  return networks_.image_encoder.Forward(pixels);
}

// The verdict and the similarity look at the same pixels, so that one tower looks at them once.
ImageScores NetworkRunner::Score(const Image& image, const at::Tensor& source_embeds) {
  const at::Tensor pixels = PreprocessAsClip(image, networks_.preprocessor);
  const ClipVision& encoder = networks_.image_encoder;
  ImageScores scores;
  at::Tensor embeds;
  if (const auto& checker = networks_.safety_checker) {
    const at::Tensor pooled = checker->vision_model.Pool(pixels);
    ++tower_runs_;
    scores.safety = checker->Score(checker->vision_model.Project(pooled));
    if (networks_.is_one_tower) embeds = encoder.Project(pooled);
  }
  if (!embeds.defined()) embeds = Embed(pixels);
  scores.similarity = Similarity(source_embeds, embeds);
  return scores;
}

// A guided sample takes two rows, the unconditional one first.
NetworkRunner::UnetBatch NetworkRunner::Assemble(absl::Span<const StepRow> rows, int padded_rows) {
  std::vector<at::Tensor> latents, time_biases, context;
  std::vector<int64_t> sample_of_row;
  for (const StepRow& row : rows) {
    if (RowsPerStep(row.guidance_scale) == 2) {
      context.push_back(networks_.unet.unconditional_context);
      sample_of_row.push_back(static_cast<int64_t>(latents.size()));
    }
    context.push_back(jobs_.at(row.job).context);
    sample_of_row.push_back(static_cast<int64_t>(latents.size()));
    latents.push_back(slots_.at(row.slot).latents * row.step->input_scale);
    time_biases.push_back(TimeBiases(row.step->timestep));
  }
  // A GPU's kernels see the same batch whatever the mix of guided samples: dead rows to the padded
  // count, halves apart from the start. On the CPU rows do not see each other, and dead ones are
  // left out.
  const bool is_fixed = !networks_.placement.device.is_cpu();
  if (is_fixed) {
    const size_t size = std::max(sample_of_row.size(), static_cast<size_t>(padded_rows));
    sample_of_row.resize(size, 0);
    context.resize(size, networks_.unet.unconditional_context);
  }
  UnetBatch batch = {
      .latents = at::cat(latents).to(networks_.placement.dtype),
      .time_biases = at::cat(time_biases),
      .context = at::cat(context),
      .sample_of_row = ToDevice(at::tensor(sample_of_row, at::kLong), networks_.placement.device)};
  if (is_fixed) {
    batch.latents = batch.latents.index_select(0, batch.sample_of_row);
    batch.time_biases = batch.time_biases.index_select(0, batch.sample_of_row);
  }
  return batch;
}

at::Tensor NetworkRunner::TimeBiases(float timestep) {
  const auto known = time_biases_.find(timestep);
  if (known != time_biases_.end()) return known->second;
  if (time_biases_.size() >= kMaxTimestepsKept) time_biases_.clear();
  return time_biases_[timestep] = networks_.unet.TimeBiases(timestep);
}

at::Tensor NetworkRunner::DrawNoise(at::Generator& generator, at::IntArrayRef shape) const {
  // On the CPU in float32 whatever the device: the same picture everywhere, and diffusers'.
  const at::Tensor noise = at::randn(shape, generator, at::TensorOptions(at::kFloat));
  return ToDevice(noise.to(at::kDouble), networks_.placement.device);
}

std::vector<at::Tensor> NetworkRunner::PredictNoise(absl::Span<const StepRow> rows,
                                                    int padded_rows) {
  const UnetBatch batch = Assemble(rows, padded_rows);
  const auto forward = [this](const CallRecorder::Tensors& call) {
    return networks_.unet.Forward(call[0], call[1], call[2], call[3]).to(at::kFloat);
  };
  const at::Tensor noise = unet_calls_.Run(
      {batch.latents, batch.time_biases, batch.context, batch.sample_of_row}, forward);
  std::vector<at::Tensor> predictions;
  int64_t unet_row = 0;
  for (const StepRow& row : rows) {
    if (RowsPerStep(row.guidance_scale) == 2) {
      const at::Tensor unconditional = noise.narrow(0, unet_row++, 1);
      const at::Tensor conditional = noise.narrow(0, unet_row++, 1);
      predictions.push_back(unconditional + (conditional - unconditional) * row.guidance_scale);
    } else {
      predictions.push_back(noise.narrow(0, unet_row++, 1));
    }
    predictions.back() = predictions.back().to(at::kDouble);
  }
  return predictions;
}

NetworkRunner::Slot NetworkRunner::Advance(const Slot& slot, const SamplerStep& step,
                                           const at::Tensor& prediction) const {
  Slot next = slot;
  const at::Tensor& x = slot.latents;
  next.input = x;
  next.input_scale = step.input_scale;
  next.prediction = prediction;
  next.timestep = step.timestep;
  if (step.keep) {
    next.history.push_front(x * step.keep_sample + prediction * step.keep_prediction);
    if (next.history.size() > step.history.size()) next.history.pop_back();
  }
  at::Tensor sum = x * step.sample + prediction * step.prediction;
  if (step.anchor != 0) sum += slot.anchor * step.anchor;
  for (size_t k = 0; k < step.history.size(); ++k) {
    if (step.history[k] != 0) sum += next.history.at(k) * step.history[k];
  }
  if (step.draws_noise) {
    next.generator = slot.generator.clone();
    sum += DrawNoise(next.generator, x.sizes()) * step.noise;
  }
  if (step.save_anchor) next.anchor = x;
  next.latents = std::move(sum);
  return next;
}

}  // namespace image_variations
