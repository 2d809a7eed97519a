// Which samples share a UNet call: the rule that the step batcher follows and the forecast
// foretells.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pipeline/engine/cost_model.h"

namespace image_variations {

// What samples of one latent area cost, in real seconds: a cost model read once for many
// questions.
struct SampleTimes {
  // A call of more than max_rows rows is not asked for, but for one guided sample.
  SampleTimes(const CostModel&, int64_t latent_area, int max_rows);

  std::vector<double> step;  // [rows] of a call; [0] = 0
  double decode = 0;
  double embedding = 0;
  Margin margin;           // by which these may fall short
  int efficient_rows = 0;  // beyond it, more rows hardly gain
  double per_row = 0;      // in calls of so many

  // Time of the device, in calls of efficient size.
  double SecondsOf(int64_t rows, int pictures, int embeddings) const {
    return static_cast<double>(rows) * per_row + pictures * decode + embeddings * embedding;
  }
  absl::Duration WorkOf(int64_t rows, int pictures, int embeddings) const {
    return absl::Seconds(SecondsOf(rows, pictures, embeddings));
  }
};

// A sample that could take part in the next call.
struct Candidate {
  int rows = 1;
  int steps_left = 1;
  bool needs_embedding = false;
  double seconds_left = std::numeric_limits<double>::infinity();  // until its deadline

  // How long it takes from now to its picture in calls of this time.
  double TimeToPicture(const SampleTimes& times, double step) const {
    return (needs_embedding ? times.embedding : 0) + steps_left * step + times.decode;
  }
  // Even alone it would be late. Predictions err: a tenth late is not counted.
  bool is_lost(const SampleTimes& times) const {
    return 0.9 * TimeToPicture(times, times.step[static_cast<size_t>(rows)]) > seconds_left;
  }
};

// The samples of one call, offered in order of urgency. Embeddings that they need come before it.
class CallChoice {
 public:
  // A call has the rows that are efficient, at most `row_ceiling` and at least `first_rows`, those
  // of the first candidate.
  CallChoice(const SampleTimes&, int row_ceiling, int first_rows);

  // Takes the candidate if its rows are left. If it needs an embedding: one in a call, more of them
  // while they take no longer than the call, and none that would make a candidate late that was
  // taken before.
  bool Take(const Candidate&);
  int rows_left() const { return rows_left_; }
  // A candidate with rows was left out for its embedding.
  bool has_deferred() const { return has_deferred_; }

  // The most of the first candidates taken, one at least, that can take all their steps together
  // and still meet each deadline, with a margin: on a device where rows cost in proportion, company
  // would make the urgent late. Lost candidates do not count.
  int Together() const;

 private:
  bool HasTimeToEmbed() const;
  double LongestStep(const Candidate&, int embeddings) const;

  const SampleTimes& times_;
  const int row_budget_;
  int rows_left_;
  int embeddings_ = 0;
  bool has_deferred_ = false;
  absl::InlinedVector<Candidate, 16> taken_;
};

}  // namespace image_variations
