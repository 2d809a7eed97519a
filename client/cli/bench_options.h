// The options of `image-variations bench`; internal to arguments.cc.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "client/cli/bench_arguments.h"

namespace image_variations::client {

// First the page's text, with examples.
extern const char kBenchHelp[];

// What CLI11 fills before it becomes BenchArguments.
struct BenchWords {
  std::vector<std::string> sizes = {}, priorities = {};
  int concurrency = 0;
  bool offline = false;
  int64_t requests = 0;
  int retries = 0;
  double duration_seconds = 0, deadline_seconds = 0, target_seconds = 0;
  double min_duration_seconds = -1;  // absent
};

// Adds all options but --server. What is plain goes into BenchArguments at once.
void AddBenchOptions(CLI::App&, BenchArguments&, BenchWords&);

// INVALID_ARGUMENT: the options contradict each other; the message says what to do.
absl::Status ConvertBench(const BenchWords&, BenchArguments&);

// "ms", "s", "m", "h"; a plain number is seconds.
CLI::AsNumberWithUnit TimeInSeconds();

}  // namespace image_variations::client
