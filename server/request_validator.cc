#include "server/request_validator.h"

#include <algorithm>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "pipeline/base/status_macros.h"
#include "server/rpc_status.h"

namespace image_variations {

namespace v1 = imagevariations::v1;

// Gathers what is wrong with a request.
class RequestValidator::Violations {
 public:
  explicit Violations(absl::string_view path) : path_(path) {}

  void Add(absl::string_view field, std::string value, std::string limit, std::string message) {
    found_.push_back(
        {absl::StrCat(path_, field), std::move(value), std::move(limit), std::move(message)});
  }

  bool empty() const { return found_.empty(); }
  absl::Status ToStatus(absl::string_view why = reason::kInvalidField) const {
    return MakeFieldError(why, found_);
  }

 private:
  std::string path_;
  std::vector<FieldViolation> found_;
};

namespace {

using Violations = RequestValidator::Violations;

constexpr char kPngType[] = "image/png";
constexpr char kImageLimit[] = "a whole JPEG or PNG picture within GetModel's limits";
constexpr char kJpegType[] = "image/jpeg";
constexpr int kDefaultJpegQuality = 95;
constexpr int kDefaultPreviewInterval = 5;
constexpr int64_t kMaxSeed =  // seed + index stays an int64
    std::numeric_limits<int64_t>::max() - std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxMetadataBytes = 4096;  // "parameters" text, XMP and container overhead
constexpr int kMinLatentSide = 8;  // an SD 1.x UNet halves three times; smaller shows nothing

// One line of the tables of numeric fields.
template <typename Number>
struct Range {
  absl::string_view field;
  Number value;
  Number min;
  Number max;
  absl::string_view note = "";  // what a special value means

  void Check(Violations* violations) const {
    if (value >= min && value <= max) return;  // NaN does not pass
    const std::string limit = absl::StrCat(min, " to ", max);
    violations->Add(field, absl::StrCat(value), limit,
                    absl::StrCat("must be ", limit, note, ", not ", value));
  }
};

void CheckEnum(absl::string_view field, int value, const google::protobuf::EnumDescriptor& type,
               Violations* violations) {
  if (type.FindValueByNumber(value) != nullptr) return;
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  const std::string known = absl::StrJoin(names, ", ");
  violations->Add(field, absl::StrCat(value), known,
                  absl::StrCat("has no value ", value, "; known are ", known));
}

// What a caller wrote, safe and short enough for an error's trailers.
std::string Shown(absl::string_view text) {
  constexpr size_t kMaxShown = 64;
  return absl::StrCat(absl::CEscape(text.substr(0, kMaxShown)),
                      text.size() > kMaxShown ? "..." : "");
}

bool IsUuid(absl::string_view text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_dash_place = i == 8 || i == 13 || i == 18 || i == 23;
    const auto c = static_cast<unsigned char>(text[i]);
    if (is_dash_place ? c != '-' : !absl::ascii_isxdigit(c)) return false;
  }
  return true;
}

std::string DrawUuid() {  // version 4, RFC 4122
  std::random_device random;
  const uint32_t a = random(), b = random(), c = random(), d = random();
  return absl::StrFormat("%08x-%04x-4%03x-%04x-%04x%08x", a, b >> 16, b & 0xfff,
                         0x8000 | ((c >> 16) & 0x3fff), c & 0xffff, d);
}

// A seed whose samples' seeds, seed + i, do not wrap in the 32 bits that matter.
uint64_t DrawSeed(int sample_count) {
  std::random_device random;
  return std::uniform_int_distribution<uint64_t>(
      0, std::numeric_limits<uint32_t>::max() - static_cast<uint64_t>(sample_count))(random);
}

absl::string_view ImageReason(const absl::Status& status) {
  if (absl::IsOutOfRange(status)) return reason::kImageTooLarge;
  if (absl::IsUnimplemented(status)) return reason::kImageUnsupported;
  return reason::kImageUndecodable;
}

// The picture's header; when its bytes are refused, the reason goes to `image_reason`.
ImageHeader CheckImage(const std::string& bytes, const DecodeLimits& limits, Violations* violations,
                       absl::string_view* image_reason) {
  if (bytes.empty()) {
    violations->Add("image", "0 bytes", "JPEG or PNG bytes", "is empty: send JPEG or PNG bytes");
    return {};
  }
  const absl::StatusOr<ImageHeader> header = PeekImage(bytes, limits);
  if (header.ok()) return *header;
  *image_reason = ImageReason(header.status());
  violations->Add("image", absl::StrCat(bytes.size(), " bytes"), kImageLimit,
                  std::string(header.status().message()));
  return {};
}

void CheckSampler(const std::vector<SamplerInfo>& known, const SamplerChoice& choice, bool has_eta,
                  Violations* violations) {
  const auto sampler =
      absl::c_find_if(known, [&](const SamplerInfo& info) { return info.name == choice.name; });
  const auto name = [](std::string* out, const SamplerInfo& info) {
    absl::StrAppend(out, info.name);
  };
  if (sampler == known.end()) {
    const std::string names = absl::StrJoin(known, ", ", name);
    violations->Add("sampler", Shown(choice.name), names,
                    absl::StrCat("\"", Shown(choice.name), "\" is not known; known are ", names));
  } else if (has_eta && !sampler->has_eta) {
    violations->Add("eta", absl::StrCat(choice.eta), "absent",
                    absl::StrCat("is not a parameter of sampler ", choice.name));
  }
}

absl::Status MakeStepCountError(const SamplerChoice& choice, const absl::Status& why,
                                absl::string_view path) {
  Violations violations(path);
  violations.Add("step_count", absl::StrCat(choice.num_inference_steps),
                 absl::StrCat("what ", choice.name, " can do"), std::string(why.message()));
  return violations.ToStatus();
}

void CheckSide(absl::string_view field, int value, int min, int max, int multiple,
               Violations* violations) {
  if (value >= min && value <= max && value % multiple == 0) return;
  const std::string limit = absl::StrFormat("%d to %d, multiples of %d", min, max, multiple);
  violations->Add(field, absl::StrCat(value), limit,
                  absl::StrCat("must be ", limit, ", not ", value));
}

}  // namespace

int64_t WorstCaseEncodedBytes(ImageFormat format, int width, int height, int jpeg_quality) {
  if (format == ImageFormat::kPng) {
    const int64_t raw = int64_t{height} * (3 * int64_t{width} + 1);  // a filter byte per row
    return raw + raw / 256 + kMaxMetadataBytes;
  }
  // Saturated noise takes 4.75 bytes per pixel at 100, 2.9 at 95 and 2.3 at 90 (4:4:4), 1.07 at 89
  // (4:2:0).
  const double per_pixel = jpeg_quality < 90 ? 1.2 : jpeg_quality <= 95 ? 3.1 : 5.0;
  const auto whole_blocks = [](int64_t side) { return (side + 15) / 16 * 16; };
  const int64_t pixels = whole_blocks(width) * whole_blocks(height);
  return static_cast<int64_t>(per_pixel * static_cast<double>(pixels)) + kMaxMetadataBytes;
}

absl::Status MakeImageError(const absl::Status& codec_status, absl::string_view field_path) {
  Violations violations(field_path);
  violations.Add("image", "", kImageLimit, std::string(codec_status.message()));
  return violations.ToStatus(ImageReason(codec_status));
}

RequestValidator::RequestValidator(RequestLimits limits, const ModelInfo& model)
    : limits_(std::move(limits)), model_(model), samplers_(SamplersOf(model.sampler)) {
  const int largest_default = std::max(model_.default_width, model_.default_height);
  if (limits_.max_size == 0) limits_.max_size = 2 * largest_default;
  limits_.max_size -= limits_.max_size % model_.latent_factor;
  min_size_ = std::min(
      {kMinLatentSide * model_.latent_factor, model_.default_width, model_.default_height});
}

ValidRequest RequestValidator::FillIn(const v1::GenerateVariationsRequest& request) const {
  const v1::OutputOptions& output = request.output();
  return {
      .request_id = request.request_id(),
      .sample_count = request.sample_count() == 0 ? 1 : request.sample_count(),
      .seed = static_cast<uint64_t>(request.seed()),
      .guidance_scale =
          request.has_guidance_scale() ? request.guidance_scale() : limits_.default_guidance_scale,
      .sampler = {.name = request.sampler().empty() ? model_.sampler.default_sampler
                                                    : request.sampler(),
                  .num_inference_steps =
                      request.has_step_count() ? request.step_count() : limits_.default_step_count,
                  .eta = request.eta()},
      .width = request.width() == 0 ? model_.default_width : request.width(),
      .height = request.height() == 0 ? model_.default_height : request.height(),
      .preprocessing = request.preprocessing() == v1::PREPROCESSING_CLIP_PROCESSOR
                           ? Preprocessing::kClipProcessor
                           : Preprocessing::kModelCard,
      .priority =
          request.priority() == v1::PRIORITY_BATCH ? Priority::kBatch : Priority::kInteractive,
      .format = output.mime_type() == kJpegType ? ImageFormat::kJpeg : ImageFormat::kPng,
      .jpeg_quality = output.jpeg_quality() == 0 ? kDefaultJpegQuality : output.jpeg_quality(),
      .omit_metadata = output.omit_metadata(),
      .validate_only = request.validate_only(),
  };
}

void RequestValidator::CheckFields(const v1::GenerateVariationsRequest& request,
                                   const ValidRequest& filled, Violations* violations) const {
  const Range<int64_t> integers[] = {
      {"sample_count", request.sample_count(), 0, limits_.max_sample_count, " (0 means 1)"},
      {"seed", request.seed(), 0, kMaxSeed},
      {"step_count", filled.sampler.num_inference_steps, 1, limits_.max_step_count},
      {"output.jpeg_quality", request.output().jpeg_quality(), 0, 100, " (0 means 95)"},
  };
  const Range<float> numbers[] = {
      {"guidance_scale", filled.guidance_scale, 0, limits_.max_guidance_scale},
      {"eta", request.eta(), 0, 1},
  };
  for (const auto& rule : integers) rule.Check(violations);
  for (const auto& rule : numbers) rule.Check(violations);
  CheckSampler(samplers_, filled.sampler, request.has_eta(), violations);
  CheckSide("width", filled.width, min_size_, limits_.max_size, model_.latent_factor, violations);
  CheckSide("height", filled.height, min_size_, limits_.max_size, model_.latent_factor, violations);
  CheckEnum("preprocessing", request.preprocessing(), *v1::Preprocessing_descriptor(), violations);
  CheckEnum("priority", request.priority(), *v1::Priority_descriptor(), violations);
  if (const std::string& type = request.output().mime_type();
      !type.empty() && type != kPngType && type != kJpegType) {
    violations->Add(
        "output.mime_type", Shown(type), absl::StrCat(kPngType, ", ", kJpegType),
        absl::StrCat("must be ", kPngType, " or ", kJpegType, ", not \"", Shown(type), "\""));
  }
  if (const std::string& id = request.request_id(); !id.empty() && !IsUuid(id)) {
    violations->Add("request_id", Shown(id), "UUID",
                    absl::StrCat("must be a UUID, not \"", Shown(id), "\""));
  }
}

absl::StatusOr<ValidRequest> RequestValidator::Validate(
    const v1::GenerateVariationsRequest& request, absl::string_view path) const {
  ValidRequest valid = FillIn(request);
  Violations violations(path);
  CheckFields(request, valid, &violations);
  const bool only_image_left = violations.empty();
  absl::string_view image_reason = reason::kInvalidField;
  valid.source = CheckImage(request.image(), limits_.image, &violations, &image_reason);
  if (!violations.empty()) {
    return violations.ToStatus(only_image_left ? image_reason : reason::kInvalidField);
  }
  const absl::StatusOr<int> unet_calls = UnetCallsOf(model_.sampler, valid.sampler);
  if (!unet_calls.ok()) return MakeStepCountError(valid.sampler, unet_calls.status(), path);
  valid.field_path = std::string(path);
  valid.unet_calls = *unet_calls;
  valid.plan_bytes = PlanBytesOf(model_.sampler, *unet_calls);
  valid.latent_area =
      int64_t{valid.width / model_.latent_factor} * (valid.height / model_.latent_factor);
  if (!request.has_seed()) valid.seed = DrawSeed(valid.sample_count);
  valid.has_drawn_id = valid.request_id.empty();
  if (valid.has_drawn_id) valid.request_id = DrawUuid();
  return valid;
}

absl::StatusOr<ValidRequest> RequestValidator::Validate(
    const v1::StreamVariationsRequest& request) const {
  if (!request.has_preview()) return Validate(request.generation(), "generation.");
  const v1::PreviewOptions& preview = request.preview();
  Violations violations("preview.");
  if (!model_.has_previews) {
    return MakeFieldError(reason::kInvalidField,
                          {{"preview", "present", "absent",
                            "is offered only where GetModel's safety is off: a preview would show "
                            "what the safety checker has not seen"}});
  }
  if (preview.interval_steps() < 0) {
    violations.Add("interval_steps", absl::StrCat(preview.interval_steps()), "0", "is negative");
  }
  if (preview.max_size() < 0) {
    violations.Add("max_size", absl::StrCat(preview.max_size()), "0", "is negative");
  }
  if (!violations.empty()) return violations.ToStatus();
  ASSIGN_OR_RETURN(ValidRequest valid, Validate(request.generation(), "generation."));
  valid.preview_interval_steps =
      preview.interval_steps() > 0 ? preview.interval_steps() : kDefaultPreviewInterval;
  valid.preview_max_side = preview.max_size();
  return valid;
}

absl::StatusOr<std::shared_ptr<const SamplerPlan>> RequestValidator::MakePlan(
    const ValidRequest& request) const {
  absl::StatusOr<SamplerPlan> plan = MakeSamplerPlan(model_.sampler, request.sampler);
  if (!plan.ok()) return MakeStepCountError(request.sampler, plan.status(), request.field_path);
  IV_CHECK(plan->steps.size() == static_cast<size_t>(request.unet_calls));
  return std::make_shared<const SamplerPlan>(*std::move(plan));
}

absl::Status RequestValidator::CheckReplySize(const ValidRequest& request) const {
  const int64_t bytes =
      request.sample_count *
      WorstCaseEncodedBytes(request.format, request.width, request.height, request.jpeg_quality);
  if (bytes <= limits_.max_unary_reply_bytes) return absl::OkStatus();
  Violations violations("");
  violations.Add(
      "sample_count", absl::StrCat(request.sample_count),
      absl::StrCat(limits_.max_unary_reply_bytes, " bytes per reply"),
      absl::StrFormat("%d pictures of %dx%d as %s can take %d bytes, the limit of one reply is %d: "
                      "call StreamVariations, or ask for %s with output.jpeg_quality below 90",
                      request.sample_count, request.width, request.height, MimeType(request.format),
                      bytes, limits_.max_unary_reply_bytes, kJpegType));
  return violations.ToStatus(reason::kReplyTooLarge);
}

v1::Limits RequestValidator::limits() const {
  v1::Limits limits;
  limits.set_max_image_bytes(limits_.image.max_bytes);
  limits.set_max_image_pixels(limits_.image.max_pixels);
  limits.set_max_sample_count(limits_.max_sample_count);
  limits.set_max_step_count(limits_.max_step_count);
  limits.set_min_size(min_size_);
  limits.set_max_size(limits_.max_size);
  limits.set_size_multiple(model_.latent_factor);
  limits.set_max_guidance_scale(limits_.max_guidance_scale);
  limits.set_max_unary_reply_bytes(limits_.max_unary_reply_bytes);
  return limits;
}

v1::GenerateVariationsRequest RequestValidator::defaults() const {
  v1::GenerateVariationsRequest request;
  request.set_sample_count(1);
  request.set_guidance_scale(limits_.default_guidance_scale);
  request.set_step_count(limits_.default_step_count);
  request.set_sampler(model_.sampler.default_sampler);
  request.set_width(model_.default_width);
  request.set_height(model_.default_height);
  request.set_preprocessing(v1::PREPROCESSING_MODEL_CARD);
  request.set_priority(v1::PRIORITY_INTERACTIVE);
  request.mutable_output()->set_mime_type(kPngType);
  request.mutable_output()->set_jpeg_quality(kDefaultJpegQuality);
  return request;
}

}  // namespace image_variations
