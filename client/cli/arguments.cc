#include "client/cli/arguments.h"

#include <algorithm>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/bench_options.h"
#include "client/cli/suggestion.h"
#include "pipeline/base/status_macros.h"

namespace image_variations::client {
namespace {

constexpr char kProgram[] = "image-variations";

constexpr char kProgramHelp[] = R"(Variations of pictures, made by an image-variations-server.

Examples:
  image-variations vary penguin.png -n 4 --seed 1 -o variations
  image-variations vary a.png b.jpg --json | jq -r .variations[].file
  image-variations health && image-variations info)";

constexpr char kVaryHelp[] = R"(Make variations of each PICTURE and a contact sheet of them.

Examples:
  image-variations vary penguin.png                    one variation, beside a contact sheet
  image-variations vary penguin.png -n 4 --seed 1 -o variations
  image-variations vary *.jpg -n 2 --sampler ddim --steps 30 --format jpeg
  curl -s $URL | image-variations vary - -o - > variation.png

Files are named by picture, index and seed: variations/penguin-0-seed1.png. Their paths go to stdout,
progress goes to stderr. What exists already is kept: a different result gets a name beside it.)";

constexpr char kExitCodes[] = R"(Exit codes:
  0  done
  1  a picture could not be read, varied or written (the others are done); health: not serving;
     bench: INVALID, or an answer is missing, mistaken or differs
  2  the command line is wrong; nothing was done
  3  every picture was answered, but samples were blocked by the safety checker or failed
  4  the server does not answer, refused the work or was too slow
  130  interrupted; the server was told to stop)";

// What CLI11 fills before it becomes Arguments.
struct Words {
  std::string format;
  std::string preprocessing;
  std::string priority;
  double timeout_seconds = 0;
  BenchWords bench;
  // By command: CLI11 gives the environment's value to the options of all commands.
  std::map<std::string, std::string> servers;
  std::map<std::string, ConnectionArguments> connections;
};

void AddServerOption(CLI::App& command, Words& words) {
  command
      .add_option(
          "--server", words.servers[command.get_name()],
          "Where it listens, or IMAGE_VARIATIONS_SERVER (default: localhost:50051); replicas: "
          "ADDRESS:PORT,... or dns:///NAME:PORT")
      ->envname("IMAGE_VARIATIONS_SERVER")
      ->option_text("HOST:PORT");
  AddConnectionOptions(command, words.connections[command.get_name()]);
}

void AddServerOptions(CLI::App& command, Words& words, const std::string& timeout_help) {
  AddServerOption(command, words);
  command.add_option("--timeout", words.timeout_seconds, timeout_help)
      ->transform(TimeInSeconds())
      ->option_text("TIME");
}

void AddRequestOptions(CLI::App& vary, VariationRequest& request, Words& words) {
  const std::string group =
      "What to make (absent: the server's defaults, see `image-variations info`)";
  vary.option_defaults()->group(group);
  vary.add_option("-n,--sample-count", request.sample_count,
                  "Variations of each picture (default: 1)")
      ->option_text("N");
  vary.add_option("--seed", request.seed, "Variation i is made from SEED + i; absent: drawn")
      ->option_text("SEED");
  vary.add_option("--guidance-scale", request.guidance_scale,
                  "Weight of the picture; 1 or less: off")
      ->option_text("X");
  vary.add_option("--steps", request.step_count, "Denoising steps")->option_text("N");
  vary.add_option("--sampler", request.sampler, "One of those that info lists")
      ->option_text("NAME");
  vary.add_option("--eta", request.eta, "Noise of the sampler ddim")->option_text("X");
  vary.add_option("--width", request.width, "Of the variations, in pixels")->option_text("PIXELS");
  vary.add_option("--height", request.height, "Of the variations, in pixels")
      ->option_text("PIXELS");
  vary.add_option("--preprocessing", words.preprocessing,
                  "card: stretch to a square, as the model card does; clip: crop to it")
      ->check(CLI::IsMember({"card", "clip"}))
      ->option_text("card|clip");
  vary.add_option("--priority", words.priority, "batch lets interactive work pass")
      ->check(CLI::IsMember({"interactive", "batch"}))
      ->option_text("interactive|batch");
}

void AddOutputOptions(CLI::App& vary, Arguments& arguments, Words& words) {
  VaryArguments& values = arguments.vary;
  vary.option_defaults()->group("What to write");
  vary.add_option("-o,--out", values.out,
                  "Folder, made if missing; - writes one variation to stdout (default: .)")
      ->option_text("DIR");
  vary.add_option("--format", words.format, "Of the variations (default: png)")
      ->check(CLI::IsMember({"png", "jpeg"}))
      ->option_text("png|jpeg");
  vary.add_option("--quality", values.request.jpeg_quality, "Of jpeg, 1 to 100 (default: 95)")
      ->option_text("N");
  vary.add_flag("--no-metadata", values.request.omit_metadata,
                "Leave parameters and the mark of a generated picture out of the files");
  vary.add_option("--sheet", values.sheet, "The contact sheet (default: DIR/contact-sheet.png)")
      ->option_text("FILE");
  vary.add_flag("--no-sheet", values.no_sheet, "No contact sheet");
  vary.add_option("--previews", values.previews,
                  "Folder for previews while it runs; only of servers without safety checker")
      ->option_text("DIR");
  vary.add_option("--preview-every", values.request.preview_interval_steps,
                  "Steps from one preview to the next (default: 5)")
      ->check(CLI::Range(1, 1000))
      ->option_text("N");
  vary.add_flag("-f,--force", values.force, "Replace files that exist");
  vary.add_flag("--json", arguments.json,
                "One JSON object for each picture on stdout, in place of paths");
  vary.add_flag("-q,--quiet", values.quiet, "Say nothing but errors");
}

void AddCommands(CLI::App& program, Arguments& arguments, Words& words) {
  CLI::App& vary = *program.add_subcommand("vary", "Make variations of pictures");
  vary.description(kVaryHelp);
  vary.add_option("PICTURE", arguments.vary.pictures, "JPEG or PNG files; - reads one from stdin")
      ->required()
      ->option_text("...");
  AddRequestOptions(vary, arguments.vary.request, words);
  AddOutputOptions(vary, arguments, words);
  vary.option_defaults()->group("The server");
  AddServerOptions(vary, words, "For each picture, like 90s or 5m (default: no limit)");
  vary.add_option("--retries", arguments.vary.retries,
                  "How often a refused picture is tried again (default: 3)")
      ->check(CLI::Range(0, 100))
      ->option_text("N");

  CLI::App& bench = *program.add_subcommand("bench", "Measure how much a server carries");
  bench.description(kBenchHelp);
  AddBenchOptions(bench, arguments.bench, words.bench);
  bench.option_defaults()->group("The server");
  AddServerOption(bench, words);

  CLI::App& health = *program.add_subcommand(
      "health", "Ask whether the server is serving: exit code 0 if so, else 1");
  AddServerOptions(health, words, "How long to wait (default: 5s)");
  health.add_option("--service", arguments.health_service, "Of one service of the server")
      ->option_text("NAME");

  CLI::App& info =
      *program.add_subcommand("info", "Show the loaded model, what it accepts, and the load");
  AddServerOptions(info, words, "How long to wait (default: 5s)");
  info.add_flag("--json", arguments.json, "As a JSON object");
}

// The command that was named, or the program itself.
const CLI::App& NamedCommand(const CLI::App& program) {
  const auto named = program.get_subcommands();
  return named.empty() ? program : *named.front();
}

// A command's description is a page of its own: the list of commands takes its first line.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    return "\n" + CLI::Formatter::make_usage(app, std::move(name));
  }
  std::string make_subcommand(const CLI::App* command) const override {
    const std::string description = command->get_description();
    std::ostringstream line;
    CLI::detail::format_help(line, command->get_name(),
                             description.substr(0, description.find('\n')), column_width_);
    return line.str();
  }
};

// `command` empty: the program's own.
std::string Help(const CLI::App& program, const std::string& command) {
  const std::string text =
      command.empty() ? program.help() : program.get_subcommand(command)->help(kProgram);
  return absl::StrReplaceAll(text, {{"\n\n\n", "\n\n"}});
}

std::vector<std::string> OptionNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> CommandNames(const CLI::App& program) {
  std::vector<std::string> names;
  for (const CLI::App* command : program.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

std::string DidYouMean(const std::string& nearest) {
  return nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?");
}

// What to say about a word that means nothing here.
std::string DescribeUnknown(const CLI::App& program, const std::string& word) {
  const CLI::App& command = NamedCommand(program);
  if (word.size() > 1 && word.front() == '-') {
    const std::string name = word.substr(0, word.find('='));
    const std::vector<std::string> known = OptionNames(command);
    if (std::find(known.begin(), known.end(), name) != known.end()) {
      return absl::StrCat(name, " belongs after the command");
    }
    return absl::StrCat(name, " is not an option", DidYouMean(NearestName(name, known)));
  }
  if (&command != &program) return absl::StrCat("'", word, "' is one word too many");
  const bool looks_like_file = word == "-" || word.find_first_of("./") != std::string::npos;
  return absl::StrCat("'", word, "' is not a command",
                      DidYouMean(looks_like_file ? absl::StrCat(kProgram, " vary ", word)
                                                 : NearestName(word, CommandNames(program))));
}

absl::Status UsageError(const CLI::App& program, const std::string& problem) {
  const CLI::App& command = NamedCommand(program);
  const std::string name = &command == &program ? "" : absl::StrCat(" ", command.get_name());
  return absl::InvalidArgumentError(absl::StrCat(problem, "\nTry: ", kProgram, name, " --help"));
}

// CLI11 throws; its macro turns what it throws into a call of failure_message. 0: understood.
int RunCli11(CLI::App& program, const std::vector<std::string>& words) {
  std::vector<const char*> arguments = {kProgram};
  for (const std::string& word : words) arguments.push_back(word.c_str());
  CLI11_PARSE(program, static_cast<int>(arguments.size()), arguments.data());
  return 0;
}

absl::Status Parse(CLI::App& program, const std::vector<std::string>& words) {
  std::string problem;
  program.failure_message([&](const CLI::App*, const CLI::Error& error) -> std::string {
    const std::vector<std::string> unknown = program.remaining(true);
    problem = unknown.empty() ? error.what() : DescribeUnknown(program, unknown.front());
    return "";
  });
  if (RunCli11(program, words) == 0) return absl::OkStatus();
  return UsageError(program, problem);
}

bool Has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Help or version, whatever else is said; empty: neither is asked for.
std::string AskedText(const CLI::App& program, const std::vector<std::string>& words) {
  if (words.empty()) return Help(program, "");
  if (Has(words, "-h") || Has(words, "--help")) {
    const std::vector<std::string> commands = CommandNames(program);
    return Help(program, Has(commands, words.front()) ? words.front() : "");
  }
  return words.front() == "--version" ? absl::StrCat(kProgram, " ", IMAGE_VARIATIONS_VERSION, "\n")
                                      : "";
}

Command CommandOf(const std::string& name) {
  if (name == "vary") return Command::kVary;
  if (name == "bench") return Command::kBench;
  return name == "health" ? Command::kHealth : Command::kInfo;
}

void Convert(const Words& words, Arguments& arguments) {
  VariationRequest& request = arguments.vary.request;
  if (words.format == "png") request.mime_type = "image/png";
  if (words.format == "jpeg") request.mime_type = "image/jpeg";
  if (words.preprocessing == "card") request.preprocessing = Preprocessing::kModelCard;
  if (words.preprocessing == "clip") request.preprocessing = Preprocessing::kClipProcessor;
  if (words.priority == "interactive") request.priority = Priority::kInteractive;
  if (words.priority == "batch") request.priority = Priority::kBatch;
  if (words.timeout_seconds > 0) {
    arguments.timeout = absl::Seconds(words.timeout_seconds);
  } else if (arguments.command != Command::kVary) {
    arguments.timeout = absl::Seconds(5);
  }
}

absl::Status CheckVary(const Arguments& arguments) {
  const VaryArguments& vary = arguments.vary;
  if (std::count(vary.pictures.begin(), vary.pictures.end(), "-") > 1) {
    return absl::InvalidArgumentError("stdin (-) can be only one of the pictures");
  }
  if (vary.no_sheet && !vary.sheet.empty()) {
    return absl::InvalidArgumentError("--sheet and --no-sheet contradict each other");
  }
  if (vary.out != "-") return absl::OkStatus();
  if (vary.pictures.size() != 1 || vary.request.sample_count > 1) {
    return absl::InvalidArgumentError(
        "-o - writes one variation of one picture to stdout; name a folder for more: -o DIR");
  }
  if (arguments.json) {
    return absl::InvalidArgumentError(
        "-o - and --json both write to stdout; name a folder: -o DIR");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Arguments> ParseArguments(const std::vector<std::string>& words) {
  Arguments arguments;
  Words raw;
  CLI::App program(kProgramHelp, kProgram);
  program.set_version_flag("--version", "");
  program.require_subcommand(1);
  program.footer(kExitCodes);
  program.formatter(std::make_shared<HelpFormatter>());
  AddCommands(program, arguments, raw);
  arguments.text = AskedText(program, words);
  if (!arguments.text.empty()) return arguments;
  RETURN_IF_ERROR(Parse(program, words));
  if (raw.timeout_seconds < 0) return UsageError(program, "--timeout is negative");
  arguments.command = CommandOf(NamedCommand(program).get_name());
  Convert(raw, arguments);
  const std::string command = NamedCommand(program).get_name();
  if (!raw.servers[command].empty()) arguments.server = raw.servers[command];
  arguments.connection = raw.connections[command];
  absl::Status status;
  if (arguments.command == Command::kVary) status = CheckVary(arguments);
  if (arguments.command == Command::kBench) status = ConvertBench(raw.bench, arguments.bench);
  if (!status.ok()) return UsageError(program, std::string(status.message()));
  return arguments;
}

}  // namespace image_variations::client
