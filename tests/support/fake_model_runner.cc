#include "tests/support/fake_model_runner.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/row_buckets.h"

namespace image_variations {
namespace {

uint64_t Mix(uint64_t state, uint64_t value) {
  uint64_t z = (state ^ value) + 0x9e3779b97f4a7c15u;  // splitmix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

template <typename T>
uint64_t Bits(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

uint64_t Embedding(const Image& source, Preprocessing preprocessing) {
  return Mix(source.rgb.empty() ? 0 : source.rgb[0], static_cast<uint64_t>(preprocessing));
}

uint64_t FirstState(uint64_t seed, float init_noise_sigma) {
  return Mix(seed, Bits(init_noise_sigma));
}

uint64_t NextState(uint64_t state, uint64_t embedding, const SamplerStep& step, float guidance) {
  state = Mix(state, embedding);
  state = Mix(state, Bits(step.timestep));
  state = Mix(state, Bits(step.prediction));
  return Mix(state, Bits(guidance));
}

// The state fills the picture, so that it can be read back from the first eight bytes.
Image Picture(uint64_t state, int width, int height) {
  Image image{width, height, std::vector<uint8_t>(RgbBytes(width, height))};
  for (size_t i = 0; i < image.rgb.size(); ++i) {
    image.rgb[i] = static_cast<uint8_t>(state >> (8 * (i % 8)));
  }
  return image;
}

uint64_t StateOf(const Image& image) {
  uint64_t state = 0;
  std::memcpy(&state, image.rgb.data(), sizeof state);
  return state;
}

}  // namespace

FakeModelRunner::FakeModelRunner(ModelInfo info) : info_(std::move(info)) {}

ModelInfo FakeModelRunner::DefaultInfo() {
  ModelInfo info;
  info.model_id = "fake";
  info.component_sha256 = {{"unet", std::string(64, '0')}};
  info.device = "cpu";
  info.dtype = "fp32";
  info.fingerprint = "fake-fingerprint";
  info.reproducible = true;
  info.has_safety_checker = true;
  info.has_previews = true;
  info.latent_factor = 8;
  info.default_width = 64;
  info.default_height = 64;
  info.sampler.steps_offset = 1;
  info.sampler.set_alpha_to_one = false;
  return info;
}

Image FakeModelRunner::ExpectedPicture(const Job& job, int index, int latent_factor) {
  uint64_t state = FirstState(job.seed + static_cast<uint64_t>(index), job.plan->init_noise_sigma);
  const uint64_t embedding = Embedding(*job.source, job.preprocessing);
  for (const SamplerStep& step : job.plan->steps) {
    state = NextState(state, embedding, step, job.guidance_scale);
  }
  return Picture(state, job.latent_width * latent_factor, job.latent_height * latent_factor);
}

absl::Status FakeModelRunner::Begin(absl::string_view verb, int rows) {
  if (on_call) on_call(verb, rows);
  return fault ? fault(verb, rows) : absl::OkStatus();
}

void FakeModelRunner::Expect(bool condition, absl::string_view breach) {
  if (!condition) breaches.emplace_back(breach);
}

absl::Status FakeModelRunner::EmbedImage(JobId job, const Image& source,
                                         Preprocessing preprocessing) {
  RETURN_IF_ERROR(Begin("EmbedImage", TowerRunsOf(preprocessing)));
  Expect(!embeddings_.contains(job), "a job is embedded twice");
  embeddings_[job] = Embedding(source, preprocessing);
  return absl::OkStatus();
}

absl::Status FakeModelRunner::PrepareLatents(absl::Span<const PrepareRow> rows) {
  RETURN_IF_ERROR(Begin("PrepareLatents", static_cast<int>(rows.size())));
  for (const PrepareRow& row : rows) {
    slots_[row.slot] = {.seed = row.seed,
                        .width = row.latent_width,
                        .height = row.latent_height,
                        .state = FirstState(row.seed, row.init_noise_sigma)};
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<bool>> FakeModelRunner::Denoise(absl::Span<const StepRow> rows,
                                                           int padded_rows) {
  if (on_denoise) on_denoise(rows);
  RETURN_IF_ERROR(Begin("Denoise", padded_rows));
  std::vector<bool> finite;
  std::set<SlotId> seen;
  int unet_rows = 0;
  for (const StepRow& row : rows) {
    const int first_row = std::exchange(unet_rows, unet_rows + RowsPerStep(row.guidance_scale));
    Expect(seen.insert(row.slot).second, "a slot is twice in a call");
    Expect(slots_.contains(row.slot), "a slot is denoised before it is prepared");
    Expect(embeddings_.contains(row.job), "a job is denoised without its embedding");
    Latents& latents = slots_[row.slot];
    const Latents& first = slots_[rows[0].slot];
    Expect(latents.width == first.width && latents.height == first.height,
           "two latent sizes share a call");
    Expect(latents.last_step == nullptr || row.step == latents.last_step + 1,
           "a step is left out, repeated or of another plan");
    latents.last_step = row.step;
    latents.state = NextState(latents.state, embeddings_[row.job], *row.step, row.guidance_scale);
    if (depends_on_batch) latents.state += depends_on_batch(padded_rows, first_row);
    finite.push_back(++latents.steps != step_not_finite ||
                     !seeds_not_finite.contains(latents.seed));
  }
  Expect(padded_rows >= unet_rows, "a call has fewer rows than its samples take");
  Expect(PaddedRows(info_.row_buckets, padded_rows) == padded_rows, "a call is not padded");
  return finite;
}

absl::StatusOr<std::vector<std::optional<Image>>> FakeModelRunner::DecodeLatents(
    absl::Span<const SlotId> slots) {
  RETURN_IF_ERROR(Begin("DecodeLatents", static_cast<int>(slots.size())));
  std::vector<std::optional<Image>> pictures;
  for (const SlotId slot : slots) {
    Expect(slots_.contains(slot), "a slot is decoded before it is prepared");
    const Latents& latents = slots_[slot];
    seed_of_state_[latents.state] = latents.seed;
    pictures.emplace_back(Picture(latents.state, latents.width * info_.latent_factor,
                                  latents.height * info_.latent_factor));
  }
  return pictures;
}

absl::StatusOr<std::vector<Image>> FakeModelRunner::PreviewLatents(absl::Span<const SlotId> slots) {
  RETURN_IF_ERROR(Begin("PreviewLatents", static_cast<int>(slots.size())));
  std::vector<Image> images;
  for (const SlotId slot : slots) {
    const Latents& latents = slots_.at(slot);
    const auto bytes = RgbBytes(latents.width, latents.height);
    images.push_back({latents.width, latents.height,
                      std::vector<uint8_t>(bytes, static_cast<uint8_t>(latents.steps))});
  }
  return images;
}

absl::StatusOr<std::vector<ImageScores>> FakeModelRunner::ScoreImages(
    absl::Span<const ScoreRow> rows) {
  RETURN_IF_ERROR(Begin("ScoreImages", static_cast<int>(rows.size())));
  std::vector<ImageScores> scores;
  for (const ScoreRow& row : rows) {
    Expect(embeddings_.contains(row.job), "a picture is scored without its job's embedding");
    const auto seed = seed_of_state_.find(StateOf(*row.image));
    Expect(seed != seed_of_state_.end(), "a picture is scored that was never decoded");
    const bool unsafe = seed != seed_of_state_.end() && seeds_unsafe.contains(seed->second);
    scores.push_back({.safety = {.special_care = {-1}, .concepts = {-1, unsafe ? 0.1f : -0.1f}},
                      .similarity = 0.5f});
  }
  return scores;
}

void FakeModelRunner::Forget(JobId job) { embeddings_.erase(job); }

}  // namespace image_variations
