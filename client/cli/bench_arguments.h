// The command line of `image-variations bench` as values.
#pragma once

#include <string>
#include <vector>

#include "client/bench/load_run.h"
#include "client/bench/request_pool.h"
#include "client/bench/summary.h"

namespace image_variations::client {

struct BenchArguments {
  std::vector<std::string> pictures = {};  // paths
  RequestMix mix = {};                     // without pictures
  int distinct = 32;                       // different requests
  LoadOptions load = {};                   // of every run; of an open loop without its rate
  std::vector<double> rates = {};          // of open loops: one run each
  bool find_rate = false;                  // the search begins at the first of `rates`
  std::vector<double> overload = {};       // runs at so many times the rate that was found
  LoadTargets targets = {};
  int connections = 16;
  std::string json = {}, plot = {};  // paths; "-" = stdout; empty: not written
};

}  // namespace image_variations::client
