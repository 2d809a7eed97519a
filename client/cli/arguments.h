// The command line as values.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/bench_arguments.h"
#include "client/cli/connection.h"
#include "client/messages.h"

namespace image_variations::client {

enum class Command { kVary, kBench, kHealth, kInfo, kPrintText };

struct VaryArguments {
  std::vector<std::string> pictures = {};  // paths; "-" = stdin
  VariationRequest request = {};           // without image and deadline
  std::string out = ".";                   // folder; "-" = stdout
  std::string sheet = {};                  // path; empty: contact-sheet.png in `out`
  std::string previews = {};               // folder; empty: none
  bool no_sheet = false;
  bool force = false;
  bool quiet = false;
  int retries = 3;
};

struct Arguments {
  Command command = Command::kPrintText;
  std::string text = {};  // of kPrintText: help or version
  std::string server = "localhost:50051";
  ConnectionArguments connection = {};
  absl::Duration timeout = absl::InfiniteDuration();  // of each picture, or of the question
  bool json = false;
  VaryArguments vary = {};
  BenchArguments bench = {};
  std::string health_service = {};
};

// INVALID_ARGUMENT: the message is what to print; it says what to do instead.
absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words);

}  // namespace image_variations::client
