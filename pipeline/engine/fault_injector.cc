#include "pipeline/engine/fault_injector.h"

#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/engine/device_error.h"
#include "pipeline/engine/non_finite.h"

namespace image_variations {
namespace {

constexpr JobId kWarmUpJob{0};
constexpr absl::string_view kStages[] = {"embed", "prepare", "denoise", "decode", "score"};
constexpr std::pair<absl::string_view, FaultKind> kKinds[] = {{"oom", FaultKind::kOutOfMemory},
                                                              {"fail", FaultKind::kFailure},
                                                              {"lost", FaultKind::kDeviceLost},
                                                              {"nan", FaultKind::kNotFinite},
                                                              {"hang", FaultKind::kHang}};

absl::StatusOr<Fault> ParseFault(absl::string_view text) {
  const absl::Status unknown = absl::InvalidArgumentError(
      absl::StrCat("must be STAGE:CALL=KIND, such as denoise:3=oom, not \"", text, "\""));
  const std::pair<absl::string_view, absl::string_view> sides = absl::StrSplit(text, '=');
  const std::vector<absl::string_view> engine = absl::StrSplit(sides.first, '/');
  const std::pair<absl::string_view, absl::string_view> place = absl::StrSplit(engine.back(), ':');
  Fault fault{.stage = std::string(place.first)};
  if (!absl::SimpleAtoi(place.second, &fault.call) || fault.call < 1) return unknown;
  const bool has_engine = engine.size() == 2 && absl::SimpleAtoi(engine[0], &fault.engine);
  if (engine.size() > 1 && (!has_engine || fault.engine < 0)) return unknown;
  bool has_stage = false, has_kind = false;
  for (const absl::string_view stage : kStages) has_stage |= stage == place.first;
  for (const auto& [name, kind] : kKinds) {
    if (name != sides.second) continue;
    fault.kind = kind;
    has_kind = true;
  }
  if (absl::string_view code = sides.second; absl::ConsumePrefix(&code, "cuda-")) {
    fault.kind = FaultKind::kDeviceError;
    has_kind = absl::SimpleAtoi(code, &fault.cuda_error);
  }
  const bool has_values = fault.stage != "prepare";
  if (!has_stage || !has_kind || (fault.kind == FaultKind::kNotFinite && !has_values)) {
    return unknown;
  }
  return fault;
}

}  // namespace

absl::StatusOr<std::vector<Fault>> ParseFaults(absl::string_view spec) {
  std::vector<Fault> faults;
  for (const absl::string_view text : absl::StrSplit(spec, ',', absl::SkipEmpty())) {
    ASSIGN_OR_RETURN(Fault fault, ParseFault(text));
    faults.push_back(std::move(fault));
  }
  return faults;
}

FaultInjector::FaultInjector(std::unique_ptr<ModelRunner> runner, std::vector<Fault> faults,
                             std::function<void()> hang)
    : runner_(std::move(runner)), faults_(std::move(faults)), hang_(std::move(hang)) {}

absl::Status FaultInjector::Begin(absl::string_view stage, bool* is_finite) {
  if (!has_job_) return absl::OkStatus();
  const int call = ++calls_[std::string(stage)];
  for (const Fault& fault : faults_) {
    if (fault.stage != stage || fault.call != call) continue;
    const std::string what = absl::StrCat("injected into ", stage, " call ", call);
    switch (fault.kind) {
      case FaultKind::kOutOfMemory:
        return absl::ResourceExhaustedError(what);
      case FaultKind::kFailure:
        return absl::InternalError(what);
      case FaultKind::kDeviceError:
        return MakeDeviceError(stage, fault.cuda_error, what);
      case FaultKind::kDeviceLost:
        return absl::DataLossError(what);
      case FaultKind::kNotFinite:
        *is_finite = false;
        break;
      case FaultKind::kHang:
        hang_();
    }
  }
  return absl::OkStatus();
}

absl::Status FaultInjector::EmbedImage(JobId job, const Image& source,
                                       Preprocessing preprocessing) {
  has_job_ = has_job_ || job != kWarmUpJob;
  bool is_finite = true;
  RETURN_IF_ERROR(Begin("embed", &is_finite));
  if (!is_finite) return NonFiniteError("embed");
  return runner_->EmbedImage(job, source, preprocessing);
}

absl::Status FaultInjector::PrepareLatents(absl::Span<const PrepareRow> rows) {
  bool is_finite = true;
  RETURN_IF_ERROR(Begin("prepare", &is_finite));
  return runner_->PrepareLatents(rows);
}

absl::StatusOr<std::vector<bool>> FaultInjector::Denoise(absl::Span<const StepRow> rows,
                                                         int padded_rows) {
  bool is_finite = true;
  RETURN_IF_ERROR(Begin("denoise", &is_finite));
  ASSIGN_OR_RETURN(std::vector<bool> finite, runner_->Denoise(rows, padded_rows));
  finite[0] = finite[0] && is_finite;
  return finite;
}

absl::StatusOr<std::vector<std::optional<Image>>> FaultInjector::DecodeLatents(
    absl::Span<const SlotId> slots) {
  bool is_finite = true;
  RETURN_IF_ERROR(Begin("decode", &is_finite));
  ASSIGN_OR_RETURN(auto pictures, runner_->DecodeLatents(slots));
  if (!is_finite) pictures[0].reset();
  return pictures;
}

absl::StatusOr<std::vector<ImageScores>> FaultInjector::ScoreImages(
    absl::Span<const ScoreRow> rows) {
  bool is_finite = true;
  RETURN_IF_ERROR(Begin("score", &is_finite));
  ASSIGN_OR_RETURN(std::vector<ImageScores> scores, runner_->ScoreImages(rows));
  if (!is_finite) scores[0].safety.concepts = {std::numeric_limits<float>::quiet_NaN()};
  return scores;
}

}  // namespace image_variations
