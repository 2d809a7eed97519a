// One playing of a forecast, which a long line is told piece by piece.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "pipeline/engine/call_width.h"
#include "pipeline/engine/forecast.h"
#include "pipeline/engine/job.h"

namespace image_variations {

// The future of a line, played once. The nearest endings are played step by step as the batcher
// will choose them; what comes after is taken to run in efficient calls, one sample after the
// other, and leaves nothing behind but its end: a long line needs no memory of its length.
class Future {
 public:
  // So many samples with steps to go at the head of the line are enough: no more of them are played
  // step by step.
  static constexpr int kNearSamples = 112;

  // `near`: the head of the line, in order of place. `expected` (in order of arrival) join when
  // their time has come. Both must live as long as this.
  Future(Forecast&, absl::Span<const ForecastSamples> near,
         absl::Span<const ForecastSamples> expected);

  // Those behind the near ones, one request after the other, which take so many seconds. Only where
  // there are enough near ones.
  void RunWork(double seconds) { clock_ += seconds; }
  // After them: the expected ones that did not join before.
  void RunExpected();

  // Of near and, after RunExpected, expected ones.
  const std::vector<ForecastTimes>& times() const { return times_; }
  double clock() const { return clock_; }

 private:
  struct Playable {
    const ForecastSamples* of;
    size_t index;  // in times_
    int steps_left;
    bool needs_embedding;
    const SampleTimes* times;

    Candidate AsCandidate(double clock) const {
      return {of->rows, steps_left, needs_embedding, of->deadline - clock};
    }
  };

  void PlayEndings();
  void Fill();
  void Insert(const ForecastSamples&, size_t index, int number);
  const SampleTimes& TimesOf(LatentSize);
  void RunCalls();
  void Choose();
  void Begin(size_t index);
  void End(const Playable&);
  void RunNear();
  void RunInTurn(const Playable&, int count);

  Forecast& forecast_;
  const absl::Span<const ForecastSamples> near_, expected_;
  std::vector<ForecastTimes> times_;
  std::vector<Playable> window_;        // at work and next in line, in order of place
  std::vector<size_t> chosen_;          // of the window, for the next call ...
  bool choice_was_narrow_ = false;      // ... fewer than its rows would take, ...
  bool somebody_was_deferred_ = false;  // ... or others, but for their embedding
  double clock_ = 0;
  int endings_ = 0;
  size_t next_near_ = 0, next_expected_ = 0;
  int next_of_near_ = 0;  // sample of the next near ones
  LatentSize latest_size_;
  const SampleTimes* latest_times_ = nullptr;
};

}  // namespace image_variations
