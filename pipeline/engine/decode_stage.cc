#include "pipeline/engine/decode_stage.h"

#include <optional>
#include <utility>

#include "pipeline/base/status_macros.h"
#include "pipeline/engine/non_finite.h"

namespace image_variations {
namespace {

using Pictures = std::vector<std::optional<Image>>;  // by sample

absl::StatusOr<Pictures> Decode(absl::Span<const Placement> samples, ModelRunner& runner) {
  std::vector<SlotId> slots;
  for (const Placement& placement : samples) slots.push_back(placement.slot);
  return runner.DecodeLatents(slots);
}

// Of the pictures that there are.
absl::StatusOr<std::vector<ImageScores>> Score(absl::Span<const Placement> samples,
                                               const Pictures& pictures, ModelRunner& runner) {
  std::vector<ScoreRow> rows;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (pictures[i]) rows.push_back({samples[i].sample.job, &*pictures[i]});
  }
  if (rows.empty()) return std::vector<ImageScores>();
  return runner.ScoreImages(rows);
}

std::vector<absl::StatusOr<SampleResult>> Judge(Pictures pictures,
                                                const std::vector<ImageScores>& scores,
                                                const SafetyPolicy& safety) {
  std::vector<absl::StatusOr<SampleResult>> results;
  size_t next_score = 0;
  for (std::optional<Image>& picture : pictures) {
    if (!picture) {
      results.push_back(NonFiniteError("decode"));
      continue;
    }
    const ImageScores& score = scores[next_score++];
    results.push_back(
        SampleResult{safety.Judge(*std::move(picture), score.safety), score.similarity});
  }
  return results;
}

}  // namespace

absl::StatusOr<JudgedSamples> DecodeAndJudge(absl::Span<const Placement> samples,
                                             ModelRunner& runner, const SafetyPolicy& safety,
                                             const Clock& clock,
                                             absl::FunctionRef<void()> when_too_large) {
  const absl::Time begin = clock.Now();
  absl::StatusOr<Pictures> pictures = Decode(samples, runner);
  if (absl::IsResourceExhausted(pictures.status())) when_too_large();
  RETURN_IF_ERROR(pictures.status());
  const absl::Time decoded = clock.Now();
  ASSIGN_OR_RETURN(const std::vector<ImageScores> scores, Score(samples, *pictures, runner));
  const absl::Time scored = clock.Now();
  return JudgedSamples{.results = Judge(*std::move(pictures), scores, safety),
                       .decode_time = decoded - begin,
                       .safety_time = scored - decoded};
}

}  // namespace image_variations
