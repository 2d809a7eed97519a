#include "server/config.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "pipeline/base/status_macros.h"
#include "server/config_value.h"
#include "server/metrics.h"

namespace image_variations {
namespace {

struct Flag {
  std::string name;
  ConfigValue value;
  std::string help;
};

// The table: every flag, IMAGE_VARIATIONS_* variable and key of the file.
std::vector<Flag> Flags(ServerConfig* c) {
  StepBatcherOptions& batcher = c->engine.batcher;
  return {
      {"model", Text(&c->model, "DIR|REPO"),
       "the model: a folder in diffusers' layout, or org/repository[@revision] in the Hugging Face "
       "cache (required)"},
      {"listen", Text(&c->listener.address, "HOST:PORT"),
       "where to serve gRPC; port 0: a free one"},
      {"tls-cert", Text(&c->listener.tls.certificate, "FILE"),
       "certificate chain of the gRPC port, PEM; read again when it changes"},
      {"tls-key", Text(&c->listener.tls.key, "FILE"), "its private key, PEM without passphrase"},
      {"client-ca", Text(&c->listener.tls.client_ca, "FILE"),
       "who signs callers' certificates, PEM; given: callers need one"},
      {"client-names", List(&c->authentication.client_names, "NAME,..."),
       "which names in a client certificate may call; empty: any"},
      {"token-file", Text(&c->authentication.token_file, "FILE"),
       "bearer tokens, by name and SHA-256; read again when it changes"},
      {"jwt-keys", Text(&c->authentication.jwt_keys, "FILE"),
       "public keys that sign JSON web tokens, PEM; read again when it changes"},
      {"jwt-issuer", Text(&c->authentication.jwt_issuer, "TEXT"), "iss of JSON web tokens"},
      {"jwt-audience", Text(&c->authentication.jwt_audience, "TEXT"), "aud of JSON web tokens"},
      {"jwt-scope", Text(&c->authentication.jwt_scope, "WORD"),
       "what scope must have for variations to be made; empty: nothing"},
      {"plaintext",
       Choice<bool>(&c->listener.plaintext_anywhere, {{"loopback", false}, {"anywhere", true}}),
       "where to serve without TLS when there is no --tls-cert"},
      {"health-listen", Text(&c->health_listen, "HOST:PORT"),
       "where to serve gRPC health checks alone, in plaintext, for probes; empty: nowhere"},
      {"metrics-listen", Text(&c->metrics_listen, "HOST:PORT"),
       "where to serve Prometheus metrics; empty: nowhere"},
      {"device", Devices(&c->devices),
       "what computes; auto: the first GPU, else the CPU. Given again, or several with commas: an "
       "engine for each"},
      {"dtype",
       Choice<std::string>(
           &c->dtype, {{"auto", "auto"}, {"fp32", "fp32"}, {"bf16", "bf16"}, {"fp16", "fp16"}}),
       "number type of the networks; auto: fp16 on a GPU, fp32 on the CPU"},
      {"gpu-memory", Number(&c->gpu_memory, 0.05f, 1.0f),
       "largest share of a GPU's memory that is taken; beyond it calls are split"},
      {"threads", Number(&c->threads, 0, 1024),
       "CPU threads of one operation; 0: all cores, divided by the engines on the CPU"},
      {"safety",
       Choice<SafetyMode>(&c->engine.safety,
                          {{"required", SafetyMode::kRequired}, {"off", SafetyMode::kOff}}),
       "whether every picture passes the model's safety checker"},
      {"default-steps", Number(&c->limits.default_step_count, 1, 1000),
       "denoising steps of a request that does not say"},
      {"default-guidance", Number(&c->limits.default_guidance_scale, 0.0f, 100.0f),
       "guidance scale of a request that does not say"},
      {"max-image-bytes", Bytes(&c->limits.image.max_bytes, int64_t{1}),
       "largest picture taken, encoded"},
      {"max-image-pixels", Number(&c->limits.image.max_pixels, int64_t{1}, int64_t{1} << 30),
       "largest picture taken, width x height"},
      {"max-image-side", Number(&c->limits.image.max_side, 1, 65535),
       "largest picture taken, longer side in pixels"},
      {"max-sample-count", Number(&c->limits.max_sample_count, 1, 1024), "pictures per request"},
      {"max-step-count", Number(&c->limits.max_step_count, 1, 1000), "denoising steps per picture"},
      {"max-size", Number(&c->limits.max_size, 0, 8192),
       "longest side of a generated picture; 0: twice the model's own"},
      {"max-guidance", Number(&c->limits.max_guidance_scale, 1.0f, 100.0f),
       "largest guidance scale"},
      {"max-unary-reply-bytes", Bytes(&c->limits.max_unary_reply_bytes, int64_t{1}),
       "largest reply of GenerateVariations; gRPC clients take 4MiB unless told otherwise"},
      {"max-slots", Number(&batcher.max_slots, 1, 65536), "pictures denoised in turn"},
      {"max-rows", Number(&batcher.max_rows, 2, 1024),
       "rows of one UNet call; a guided picture takes two"},
      {"max-waiting-samples", Number(&batcher.max_waiting_samples, 1, 1'000'000),
       "pictures in line or at work; one more is refused"},
      {"max-requests", Number(&c->admission.max_requests, 1, 1'000'000), "requests at a time"},
      {"max-memory", Bytes(&c->admission.max_bytes, int64_t{1} << 20),
       "memory for pictures of all requests: encoded, decoded, generated, not yet read"},
      {"max-unet-rows", Number(&c->admission.max_unet_rows_ahead, int64_t{1}, int64_t{1} << 40),
       "work in line, in rows of UNet calls"},
      {"interactive-target", Time(&batcher.interactive_target),
       "planned time of an interactive request without a deadline"},
      {"batch-target", Time(&batcher.batch_target),
       "planned time of a batch request without a deadline"},
      {"replay-memory", Bytes(&c->ledger.max_bytes, int64_t{0}),
       "answers kept for requests that are repeated with their request_id"},
      {"replay-age", Time(&c->ledger.max_age), "how long they are kept"},
      {"codec-threads", Number(&c->codec_threads, 1, 256),
       "threads that decode and encode pictures"},
      {"decode-sandbox", Choice<bool>(&c->decode_sandbox, {{"off", false}, {"on", true}}),
       "whether each picture is decoded in a process of its own that can do nothing else"},
      {"max-message-bytes", Bytes(&c->listener.max_message_bytes, 1 << 16),
       "largest gRPC message taken; at least max-image-bytes + 64KiB"},
      {"max-metadata-bytes", Bytes(&c->listener.max_metadata_bytes, 1 << 10),
       "largest gRPC metadata of a call"},
      {"max-concurrent-streams", Number(&c->listener.max_concurrent_streams, 1, 1'000'000),
       "calls of one connection at a time"},
      {"caller-metadata", Text(&c->authentication.caller_metadata, "KEY"),
       "metadata key by which callers without token and certificate name themselves; empty: their "
       "address does"},
      {"caller-max-requests", Number(&c->caller_limits.max_requests, 0, 1'000'000),
       "requests of one caller at a time; 0: no limit"},
      {"caller-max-unet-rows",
       Number(&c->caller_limits.max_unet_rows, int64_t{0}, int64_t{1} << 40),
       "work of one caller at a time, in rows of UNet calls; 0: no limit"},
      {"max-connections", Number(&c->listener.max_connections, 1, 1 << 20),
       "connections at a time; one more is closed at once"},
      {"max-transport-memory", Bytes(&c->listener.max_transport_bytes, int64_t{16} << 20),
       "memory for what connections have sent and not had read, or not taken yet"},
      {"handshake-timeout", Time(&c->listener.handshake_timeout),
       "how long a new connection has until it speaks HTTP/2"},
      {"max-connection-idle", Time(&c->listener.max_connection_idle),
       "how long a connection may be without a call; 0: for ever"},
      {"max-connection-age", Time(&c->listener.max_connection_age),
       "how long a connection takes new calls; 0: for ever"},
      {"keepalive-interval", Time(&c->listener.keepalive_interval),
       "how often a silent peer is asked whether it is there"},
      {"keepalive-timeout", Time(&c->listener.keepalive_timeout), "how long it has to answer"},
      {"drain-delay", Time(&c->drain.delay),
       "after SIGTERM: how long to take new requests, already unhealthy, until routes have moved"},
      {"drain-timeout", Time(&c->drain.timeout),
       "after SIGTERM: how long running requests have to finish"},
      {"hang-timeout", Time(&c->hang_timeout),
       "after this, and twenty times its prediction, a call of the networks counts as hung: the "
       "device is lost"},
      {"log-level",
       Choice<Severity>(&c->log_level, {{"debug", Severity::kDebug},
                                        {"info", Severity::kInfo},
                                        {"warning", Severity::kWarning},
                                        {"error", Severity::kError}}),
       "least severe line of the log on stderr"},
  };
}

std::string VariableOf(absl::string_view flag) {
  return absl::StrCat("IMAGE_VARIATIONS_",
                      absl::AsciiStrToUpper(absl::StrReplaceAll(flag, {{"-", "_"}})));
}

std::string FlagsMarkdown(const std::vector<Flag>& flags) {
  std::string out = "| Flag | Variable | Default | What |\n|---|---|---|---|\n";
  for (const Flag& flag : flags) {
    absl::StrAppend(&out, "| `--", flag.name, "` | `", VariableOf(flag.name), "` | ",
                    flag.value.default_shown.empty() ? "" : "`", flag.value.default_shown,
                    flag.value.default_shown.empty() ? "" : "`", " | ", flag.help, " |\n");
  }
  return out;
}

// Variables of flags that the command line does not give, as arguments; CLI11 itself would put
// the file above them.
std::vector<std::pair<std::string, std::string>> FromEnvironment(const std::vector<Flag>& flags,
                                                                 int argc, const char* const* argv,
                                                                 Environment environment) {
  std::vector<std::string> names = {"config"};
  for (const Flag& flag : flags) names.push_back(flag.name);
  std::vector<std::pair<std::string, std::string>> found;
  for (const std::string& name : names) {
    const std::string given = absl::StrCat("--", name);
    const bool on_command_line = std::any_of(argv, argv + argc, [&](absl::string_view argument) {
      return argument == given || absl::StartsWith(argument, given + "=");
    });
    const char* text = environment(VariableOf(name).c_str());
    if (text != nullptr && !on_command_line) found.emplace_back(name, text);
  }
  return found;
}

struct Switches {
  bool help = false;
  bool version = false;
  bool flags_markdown = false;
  bool metrics_markdown = false;
  std::string faults;  // FaultInjector's, for developers
};

void Declare(const std::vector<Flag>& flags, CLI::App* app, Switches* switches) {
  app->set_help_flag();
  app->get_formatter()->column_width(36);
  app->footer(
      "Each flag can also be a variable (--max-rows: IMAGE_VARIATIONS_MAX_ROWS) or a line of\n"
      "the file (max-rows = 8). Flags win over variables, variables over the file.");
  app->add_flag("-h,--help", switches->help, "print this");
  app->add_flag("--version", switches->version, "print the version");
  app->add_flag("--print-flags-markdown", switches->flags_markdown)->group("");
  app->add_flag("--print-metrics-markdown", switches->metrics_markdown)->group("");
  app->add_option("--inject-faults", switches->faults)->group("");
  app->set_config("--config", "", "file with settings, TOML or INI");
  app->allow_config_extras(CLI::config_extras_mode::error);
  for (const Flag& flag : flags) {
    CLI::Option* const option = app->add_option_function<std::string>(
                                       "--" + flag.name, [](const std::string&) {}, flag.help)
                                    ->check(flag.value.set, "")
                                    ->type_name(flag.value.type)
                                    ->default_str(flag.value.default_shown);
    if (flag.value.repeats) option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
}

// CLI11 throws; its macro turns what it throws into a call of failure_message.
int Run(CLI::App& app, int argc, const char* const* argv) {
  CLI11_PARSE(app, argc, argv);
  return 0;
}

absl::Status Parse(const std::vector<Flag>& flags, int argc, const char* const* argv,
                   Environment environment, CLI::App* app) {
  const auto variables = FromEnvironment(flags, argc, argv, environment);
  std::vector<std::string> arguments = {argv[0]};
  for (const auto& [name, text] : variables) {
    arguments.push_back(absl::StrCat("--", name, "=", text));
  }
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  std::vector<const char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(argument.c_str());

  std::string error;
  app->failure_message([&error](const CLI::App*, const CLI::Error& thrown) {
    error = thrown.what();
    return std::string();
  });
  if (Run(*app, static_cast<int>(pointers.size()), pointers.data()) == 0) return absl::OkStatus();
  for (const auto& [name, text] : variables) {
    if (absl::StrContains(error, "--" + name)) {
      absl::StrAppend(&error, " (from ", VariableOf(name), ")");
    }
  }
  return absl::InvalidArgumentError(error);
}

absl::Status CheckTls(const TlsFiles& tls) {
  if (tls.certificate.empty() != tls.key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key belong together");
  }
  if (tls.certificate.empty() && !tls.client_ca.empty()) {
    return absl::InvalidArgumentError("--client-ca needs --tls-cert and --tls-key");
  }
  return absl::OkStatus();
}

// Of text that a caller may set.
bool IsMetadataKey(const std::string& key) {
  return !absl::StartsWith(key, "grpc-") && !absl::EndsWith(key, "-bin") &&
         key != "authorization" &&
         key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.") == key.npos;
}

absl::Status CheckAuthentication(const ServerConfig& config) {
  const AuthenticatorOptions& options = config.authentication;
  const bool has_keys = !options.jwt_keys.empty();
  if (has_keys != !options.jwt_issuer.empty() || has_keys != !options.jwt_audience.empty()) {
    return absl::InvalidArgumentError(
        "--jwt-keys, --jwt-issuer and --jwt-audience belong together");
  }
  if (!options.jwt_scope.empty() && !has_keys) {
    return absl::InvalidArgumentError("--jwt-scope needs --jwt-keys");
  }
  if (!options.client_names.empty() && config.listener.tls.client_ca.empty()) {
    return absl::InvalidArgumentError("--client-names needs --client-ca");
  }
  if (!options.caller_metadata.empty() && !IsMetadataKey(options.caller_metadata)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--caller-metadata is \"", options.caller_metadata,
        "\", needed lower-case letters, digits, \"-\", \"_\" and \".\", not beginning with "
        "\"grpc-\", not ending in \"-bin\", not authorization"));
  }
  return absl::OkStatus();
}

absl::Status CheckDevices(const ServerConfig& config) {
  std::vector<std::string> devices = config.devices;
  std::ranges::sort(devices);
  for (size_t i = 0; i + 1 < devices.size(); ++i) {
    if (std::ranges::find(devices, "auto") != devices.end()) {
      return absl::InvalidArgumentError("--device auto is one device: name each of several");
    }
    if (devices[i] != "cpu" && devices[i] == devices[i + 1]) {
      return absl::InvalidArgumentError(absl::StrCat("--device ", devices[i], " is given twice"));
    }
  }
  for (const Fault& fault : config.faults) {
    if (fault.engine >= static_cast<int>(devices.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("--inject-faults: there is no engine ", fault.engine));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTogether(const ServerConfig& config) {
  RETURN_IF_ERROR(CheckDevices(config));
  RETURN_IF_ERROR(CheckAuthentication(config));
  RETURN_IF_ERROR(CheckTls(config.listener.tls));
  const RequestLimits& limits = config.limits;
  if (config.model.empty()) {
    return absl::InvalidArgumentError(
        "--model is required: a folder in diffusers' layout, such as demo/model, or "
        "org/repository[@revision] in the Hugging Face cache");
  }
  if (limits.default_step_count > limits.max_step_count) {
    return absl::InvalidArgumentError(absl::StrCat("--default-steps is ", limits.default_step_count,
                                                   ", --max-step-count only ",
                                                   limits.max_step_count));
  }
  if (limits.default_guidance_scale > limits.max_guidance_scale) {
    return absl::InvalidArgumentError(
        absl::StrCat("--default-guidance is ", limits.default_guidance_scale,
                     ", --max-guidance only ", limits.max_guidance_scale));
  }
  if (limits.max_sample_count > config.engine.batcher.max_waiting_samples) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-sample-count is ", limits.max_sample_count,
                     ", --max-waiting-samples only ", config.engine.batcher.max_waiting_samples));
  }
  constexpr int64_t kOtherFields = 64 << 10;
  if (config.listener.max_message_bytes < limits.image.max_bytes + kOtherFields) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-message-bytes is ", config.listener.max_message_bytes,
                     ", less than --max-image-bytes ", limits.image.max_bytes, " + 64KiB"));
  }
  return absl::OkStatus();
}

// Where huggingface_hub keeps its cache, by its own variables (huggingface_hub/constants.py).
std::string HubCacheFolder(Environment environment) {
  const auto value = [&environment](const char* variable) {
    const char* text = environment(variable);
    return std::string(text == nullptr ? "" : text);
  };
  const auto expand = [&value](const std::string& path) {
    return path == "~" || absl::StartsWith(path, "~/") ? value("HOME") + path.substr(1) : path;
  };
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (!value(variable).empty()) return expand(value(variable));
  }
  std::string home = value("HF_HOME");
  if (home.empty()) {
    const std::string cache = value("XDG_CACHE_HOME");
    home = (cache.empty() ? "~/.cache" : cache) + "/huggingface";
  }
  return expand(home) + "/hub";
}

}  // namespace

const char* ProcessEnvironment(const char* name) { return std::getenv(name); }

absl::StatusOr<Command> ReadCommand(int argc, const char* const* argv, Environment environment) {
  Command command;
  ServerConfig& config = command.config;
  const std::vector<Flag> flags = Flags(&config);

  Switches switches;
  CLI::App app("Serves variations of pictures over gRPC.", "image-variations-server");
  Declare(flags, &app, &switches);
  RETURN_IF_ERROR(Parse(flags, argc, argv, environment, &app));
  if (switches.help) command.print = app.help();
  if (switches.version) command.print = absl::StrCat("image-variations-server ", IV_VERSION, "\n");
  if (switches.flags_markdown) command.print = FlagsMarkdown(flags);
  if (switches.metrics_markdown) command.print = Metrics().Markdown();
  if (command.print) return command;

  config.hub_cache = HubCacheFolder(environment);
  if (const char* socket = environment("NOTIFY_SOCKET")) config.notify_socket = socket;
  absl::StatusOr<std::vector<Fault>> faults = ParseFaults(switches.faults);
  if (!faults.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--inject-faults: ", faults.status().message()));
  }
  config.faults = *std::move(faults);
  config.admission.devices = static_cast<int>(config.devices.size());
  config.admission.max_samples = config.engine.batcher.max_waiting_samples;
  config.admission.max_rows = config.engine.batcher.max_rows;
  config.admission.interactive_target = config.engine.batcher.interactive_target;
  config.admission.batch_target = config.engine.batcher.batch_target;
  RETURN_IF_ERROR(CheckTogether(config));
  return command;
}

}  // namespace image_variations
