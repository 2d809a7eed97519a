#include "pipeline/engine/call_width.h"

#include <algorithm>

namespace image_variations {
namespace {

constexpr int kGuidedRows = 2;
constexpr double kRounding = 1e-9;  // of a sum of times that was just enough before

}  // namespace

SampleTimes::SampleTimes(const CostModel& cost, int64_t latent_area, int max_rows)
    : step(cost.unet.SecondsUpTo(latent_area, std::max(kGuidedRows, max_rows))),
      decode(cost.pace.factor() * absl::ToDoubleSeconds(cost.decode.Predict(latent_area))),
      embedding(cost.pace.factor() *
                absl::ToDoubleSeconds(cost.embedding.Predict(CostModel::kSourceArea))),
      margin(cost.pace.margin()),
      efficient_rows(cost.unet.EfficientRows(
          absl::MakeConstSpan(step).first(static_cast<size_t>(max_rows) + 1))) {
  for (double& seconds : step) seconds *= cost.pace.factor();
  per_row = step[static_cast<size_t>(efficient_rows)] / efficient_rows;
}

CallChoice::CallChoice(const SampleTimes& times, int row_ceiling, int first_rows)
    : times_(times),
      row_budget_(std::max(first_rows, std::min(times.efficient_rows, row_ceiling))),
      rows_left_(row_budget_) {}

bool CallChoice::Take(const Candidate& candidate) {
  if (candidate.rows > rows_left_) return false;
  if (candidate.needs_embedding && !taken_.empty() && !HasTimeToEmbed()) {
    has_deferred_ = true;
    return false;
  }
  rows_left_ -= candidate.rows;
  embeddings_ += candidate.needs_embedding ? 1 : 0;
  taken_.push_back(candidate);
  return true;
}

bool CallChoice::HasTimeToEmbed() const {
  if (times_.embedding == 0) return true;
  const double call = times_.step[static_cast<size_t>(row_budget_)];
  if (embeddings_ > 0 && (embeddings_ + 1) * times_.embedding > call) return false;
  return std::ranges::none_of(taken_, [this](const Candidate& other) {
    const int others = embeddings_ - (other.needs_embedding ? 1 : 0);
    const double alone = times_.step[static_cast<size_t>(other.rows)];
    const double needed = other.TimeToPicture(times_, alone) + others * times_.embedding;
    return needed <= other.seconds_left &&
           times_.margin.On(needed + times_.embedding) > other.seconds_left;
  });
}

// A call that the candidate can bear until its picture, after so many embeddings.
double CallChoice::LongestStep(const Candidate& candidate, int embeddings) const {
  constexpr double kAny = std::numeric_limits<double>::infinity();
  if (candidate.seconds_left == kAny || candidate.is_lost(times_)) return kAny;
  const int others = embeddings - (candidate.needs_embedding ? 1 : 0);
  const double for_steps = times_.margin.Within(candidate.seconds_left) -
                           candidate.TimeToPicture(times_, 0) - others * times_.embedding;
  const double alone = times_.step[static_cast<size_t>(candidate.rows)];
  return std::max(for_steps / candidate.steps_left, alone);
}

int CallChoice::Together() const {
  double longest_step = std::numeric_limits<double>::infinity();  // that all so far can bear
  int together = 0;
  int rows = 0;
  int count = 0;
  int embeddings = 0;
  for (const Candidate& candidate : taken_) {
    rows += candidate.rows;
    ++count;
    if (candidate.needs_embedding && times_.embedding > 0) {
      ++embeddings;  // the others wait for it
      for (const Candidate& other : absl::MakeConstSpan(taken_).first(static_cast<size_t>(count))) {
        longest_step = std::min(longest_step, LongestStep(other, embeddings));
      }
    } else {
      longest_step = std::min(longest_step, LongestStep(candidate, embeddings));
    }
    const double step = times_.step[static_cast<size_t>(rows)];
    if (count == 1 || step <= longest_step * (1 + kRounding)) together = count;
  }
  return together;
}

}  // namespace image_variations
