// The results of `image-variations bench`, for people and for programs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/bench/summary.h"
#include "client/cli/bench_arguments.h"
#include "client/messages.h"

namespace image_variations::client {

struct BenchRun {
  double rate = 0;  // of the open loop; else 0
  LoadSummary summary = {};
};

struct BenchReport {
  ModelDescription model = {};
  BenchArguments arguments = {};
  std::vector<BenchRun> runs = {};  // in the order in which they ran
  std::optional<double> highest_valid_rate = {};
};

// "demo on cpu, fp32: 2 pictures, 1 or 4 samples, 25 steps; deadline 2 s, seed 1"
std::string DescribeLoad(const ModelDescription&, const BenchArguments&);

// A table of all runs, a line each: the head once, then each run as it ends.
std::string TableHead(const BenchArguments&);
std::string TableRow(const BenchRun&, const BenchArguments&);

// Everything about one run, in lines.
std::string DescribeRun(const BenchRun&, const BenchArguments&);

// Whether every request of all runs was answered once, and alike.
std::string DescribeHistory(const std::vector<BenchRun>&);

// One JSON object. Times are in seconds; keys without a value are absent.
std::string ToJson(const BenchReport&);

// SVG.
std::string DrawPlot(const BenchReport&);

}  // namespace image_variations::client
