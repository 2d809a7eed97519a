#include "client/cli/bench_options.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "pipeline/base/status_macros.h"

namespace image_variations::client {

const char kBenchHelp[] = R"(Measure how much a server carries: load, latency, goodput, refusals.

Examples:
  image-variations bench demo/pictures/*.png --find-rate --target-latency 2s --deadline 2s
                                                       the highest rate that keeps p99 within 2 s
  image-variations bench cat.png --find-rate --overload 2,5,10 --target-latency 2s --deadline 2s
                                                       and what is left of it under overload
  image-variations bench cat.png --rate 1,2,4,8,16 --plot latency.svg
  image-variations bench cat.png --concurrency 16 --requests 500 --check-bytes
  image-variations bench cat.png --offline --requests 100 --json -

Every request is drawn from the lists below by --seed, and sent when it is due, whatever the server
does. Latency counts from then, so that a late sender hides nothing.

VALID means, as in MLPerf's LoadGen: the run was long enough; every request had one answer; and with
99 % confidence, --percentile of all requests are answered within --target-latency. What was refused
or failed is late.)";

namespace {

void AddMixOptions(CLI::App& bench, BenchArguments& arguments, BenchWords& words) {
  RequestMix& mix = arguments.mix;
  bench.option_defaults()->group(
      "What to ask for (lists: drawn with equal chance; absent: the server's defaults)");
  const auto add_list = [&](const char* name, auto& values, const char* help, const char* text) {
    bench.add_option(name, values, help)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->option_text(text);
  };
  add_list("-n,--sample-count", mix.sample_counts, "Variations of a request (default: 1)", "N,...");
  add_list("--steps", mix.step_counts, "Denoising steps", "N,...");
  add_list("--sampler", mix.samplers, "Of those that info lists", "NAME,...");
  add_list("--guidance-scale", mix.guidance_scales, "Weight of the picture; 1 or less: off",
           "X,...");
  add_list("--size", words.sizes, "Of the variations, in pixels", "WIDTHxHEIGHT,...");
  add_list("--priority", words.priorities, "interactive, batch", "NAME,...");
  bench
      .add_option("--distinct", arguments.distinct,
                  "How many different requests are drawn from these (default: 32)")
      ->check(CLI::Range(1, 100'000))
      ->option_text("N");
}

void AddLoadOptions(CLI::App& bench, BenchArguments& arguments, BenchWords& words) {
  bench.option_defaults()->group("How to load the server");
  bench
      .add_option("--rate", arguments.rates,
                  "Open loop: requests per second with Poisson arrivals; a run for each rate")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->option_text("R,...");
  bench.add_flag("--find-rate", arguments.find_rate,
                 "Search for the highest VALID rate, from --rate (default: 1)");
  bench
      .add_option("--overload", arguments.overload,
                  "With --find-rate: then runs at so many times that rate")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->option_text("X,...");
  bench
      .add_option("--concurrency", words.concurrency,
                  "Closed loop: so many callers, each asks again when it is answered")
      ->check(CLI::Range(1, 100'000))
      ->option_text("N");
  bench.add_flag("--offline", words.offline, "All --requests at once");
  bench
      .add_option(
          "--duration", words.duration_seconds,
          "Of each run (default: 60s); with a target more, if it takes more requests to judge")
      ->transform(TimeInSeconds())
      ->option_text("TIME");
  bench.add_option("--requests", words.requests, "End a run after so many")
      ->check(CLI::Range(int64_t{1}, int64_t{100'000'000}))
      ->option_text("N");
  bench.add_option("--seed", arguments.load.pacer.seed, "Of arrivals and requests (default: 1)")
      ->option_text("SEED");
  bench
      .add_option("--deadline", words.deadline_seconds,
                  "Of each request, from when it is due (default: none)")
      ->transform(TimeInSeconds())
      ->option_text("TIME");
  bench
      .add_option("--retries", words.retries,
                  "How often a refused request comes back when the server says (default: 0)")
      ->check(CLI::Range(0, 100))
      ->option_text("N");
  bench
      .add_option("--cancel", arguments.load.cancel_share,
                  "Share of requests that the caller gives up on the way, 0 to 1 (default: 0)")
      ->check(CLI::Range(0.0, 1.0))
      ->option_text("X");
  bench
      .add_option("--connections", arguments.connections,
                  "That requests take in turn; a server limits the calls on each (default: 16)")
      ->check(CLI::Range(1, 1000))
      ->option_text("N");
}

void AddTargetOptions(CLI::App& bench, BenchArguments& arguments, BenchWords& words) {
  LoadTargets& targets = arguments.targets;
  bench.option_defaults()->group("What it has to reach");
  bench.add_option("--target-latency", words.target_seconds, "Absent: nothing is judged")
      ->transform(TimeInSeconds())
      ->option_text("TIME");
  bench.add_option("--percentile", targets.percentile, "Of all requests (default: 99)")
      ->check(CLI::Range(1.0, 99.99))
      ->option_text("P");
  bench
      .add_option("--min-duration", words.min_duration_seconds,
                  "Of a VALID run (default: --duration, else 60s; MLPerf: 10m)")
      ->transform(TimeInSeconds())
      ->option_text("TIME");
  bench
      .add_option("--min-requests", targets.min_requests,
                  "Of a VALID run, beside what the confidence needs (459 for p99)")
      ->option_text("N");
}

void AddReportOptions(CLI::App& bench, BenchArguments& arguments) {
  bench.option_defaults()->group("What to report");
  bench.add_option("--json", arguments.json, "All figures; - writes them to stdout, without table")
      ->option_text("FILE");
  bench.add_option("--plot", arguments.plot, "Latency and goodput against offered rate, as SVG")
      ->option_text("FILE");
  bench.add_flag("--check-bytes", arguments.load.check_bytes,
                 "Compare the variations of equal requests, byte by byte");
}

absl::Status ConvertSizes(const BenchWords& words, RequestMix& mix) {
  for (const std::string& word : words.sizes) {
    const std::vector<std::string> sides = absl::StrSplit(word, 'x');
    PictureSize size;
    if (sides.size() != 2 || !absl::SimpleAtoi(sides[0], &size.width) ||
        !absl::SimpleAtoi(sides[1], &size.height)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--size is '", word, "'; a size is like 512x512"));
    }
    mix.sizes.push_back(size);
  }
  return absl::OkStatus();
}

absl::Status ConvertPriorities(const BenchWords& words, RequestMix& mix) {
  for (const std::string& word : words.priorities) {
    if (word != "interactive" && word != "batch") {
      return absl::InvalidArgumentError(
          absl::StrCat("--priority is '", word, "'; it is interactive or batch"));
    }
    mix.priorities.push_back(word == "batch" ? Priority::kBatch : Priority::kInteractive);
  }
  return absl::OkStatus();
}

absl::Status CheckScenario(const BenchWords& words, const BenchArguments& arguments) {
  const bool open_loop = !arguments.rates.empty() || arguments.find_rate;
  const int scenarios = (open_loop ? 1 : 0) + (words.concurrency > 0 ? 1 : 0) + words.offline;
  if (scenarios != 1) {
    return absl::InvalidArgumentError(
        scenarios == 0 ? "say how to load the server: --rate, --find-rate, --concurrency or "
                         "--offline"
                       : "--rate and --find-rate, --concurrency, --offline exclude each other");
  }
  for (const double rate : arguments.rates) {
    if (rate <= 0) {
      return absl::InvalidArgumentError(absl::StrCat("--rate is ", rate, "; it is above 0"));
    }
  }
  if (arguments.find_rate && arguments.rates.size() > 1) {
    return absl::InvalidArgumentError("--find-rate begins at one --rate; leave out the others");
  }
  if (arguments.find_rate && words.target_seconds <= 0) {
    return absl::InvalidArgumentError("--find-rate needs to know what is valid: --target-latency");
  }
  if (!arguments.overload.empty() && !arguments.find_rate) {
    return absl::InvalidArgumentError("--overload multiplies what --find-rate finds");
  }
  if (words.offline && words.requests == 0) {
    return absl::InvalidArgumentError("--offline needs to know how many: --requests");
  }
  if (words.offline && words.target_seconds > 0) {
    return absl::InvalidArgumentError(
        "--offline measures throughput; --target-latency is for --rate and --concurrency");
  }
  if (!arguments.plot.empty() && !open_loop) {
    return absl::InvalidArgumentError("--plot shows rates: --rate R,... or --find-rate");
  }
  return absl::OkStatus();
}

absl::Status CheckRest(const BenchWords& words, const BenchArguments& arguments) {
  if (std::min({words.duration_seconds, words.deadline_seconds, words.target_seconds}) < 0) {
    return absl::InvalidArgumentError("a time is negative");
  }
  const auto& pictures = arguments.pictures;
  if (std::find(pictures.begin(), pictures.end(), "-") != pictures.end()) {
    return absl::InvalidArgumentError("bench reads pictures from files, not from stdin (-)");
  }
  if (arguments.json == "-" && arguments.plot == "-") {
    return absl::InvalidArgumentError("--json - and --plot - both write to stdout; name a file");
  }
  return absl::OkStatus();
}

}  // namespace

void AddBenchOptions(CLI::App& bench, BenchArguments& arguments, BenchWords& words) {
  bench.add_option("PICTURE", arguments.pictures, "JPEG or PNG files, sent as they are")
      ->required()
      ->option_text("...");
  AddMixOptions(bench, arguments, words);
  AddLoadOptions(bench, arguments, words);
  AddTargetOptions(bench, arguments, words);
  AddReportOptions(bench, arguments);
}

absl::Status ConvertBench(const BenchWords& words, BenchArguments& arguments) {
  RETURN_IF_ERROR(CheckScenario(words, arguments));
  RETURN_IF_ERROR(CheckRest(words, arguments));
  RETURN_IF_ERROR(ConvertSizes(words, arguments.mix));
  RETURN_IF_ERROR(ConvertPriorities(words, arguments.mix));
  PacerOptions& pacer = arguments.load.pacer;
  if (words.concurrency > 0) {
    pacer.scenario = Scenario::kClosedLoop;
    pacer.concurrency = words.concurrency;
  }
  if (words.offline) pacer.scenario = Scenario::kOffline;
  if (words.requests > 0) pacer.max_requests = words.requests;
  if (words.duration_seconds > 0) {
    pacer.duration = absl::Seconds(words.duration_seconds);
  } else if (words.requests == 0) {
    pacer.duration = absl::Seconds(60);
  }
  if (words.deadline_seconds > 0) arguments.load.deadline = absl::Seconds(words.deadline_seconds);
  arguments.load.retry.max_attempts = words.retries + 1;
  LoadTargets& targets = arguments.targets;
  if (words.target_seconds > 0) targets.latency = absl::Seconds(words.target_seconds);
  if (words.min_duration_seconds >= 0) {
    targets.min_duration = absl::Seconds(words.min_duration_seconds);
  } else {
    const bool has_duration = pacer.duration < absl::InfiniteDuration();
    targets.min_duration = has_duration ? pacer.duration : absl::Seconds(60);
  }
  targets.deadline = arguments.load.deadline;
  arguments.load.targets = targets;
  return absl::OkStatus();
}

CLI::AsNumberWithUnit TimeInSeconds() {
  return CLI::AsNumberWithUnit(
      std::map<std::string, double>{{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}});
}

}  // namespace image_variations::client
