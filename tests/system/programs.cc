#include "tests/system/programs.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

std::vector<std::string> With(std::vector<std::string> arguments,
                              const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

Finished RunServer(const std::vector<std::string>& arguments) {
  return RunToEnd(IV_SERVER_PROGRAM,
                  With({"--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"}, arguments));
}

Finished RunCli(const std::vector<std::string>& arguments, const std::string& input) {
  return RunToEnd(IV_CLI_PROGRAM, arguments, input);
}

ServerProcess::ServerProcess(const std::vector<std::string>& more_arguments)
    : process_(IV_SERVER_PROGRAM,
               With({"--model", kModel, "--listen", "127.0.0.1:0", "--metrics-listen",
                     "127.0.0.1:0", "--log-level", "warning"},
                    more_arguments)) {
  const std::string first = process_.ReadLine();
  const std::string second = process_.ReadLine();
  IV_CHECK(first.starts_with("listening on ") && second.starts_with("metrics on "));
  address_ = first.substr(sizeof "listening on " - 1);
  metrics_address_ = second.substr(sizeof "metrics on " - 1);
}

client::Client ServerProcess::Connect() const {
  return *client::Client::Connect({.address = address_, .retry = {.max_attempts = 1}});
}

std::string ServerProcess::Metrics() const {
  const std::pair<std::string, std::string> host_port =
      absl::StrSplit(metrics_address_, absl::MaxSplits(':', 1));
  int port = 0;
  IV_CHECK(absl::SimpleAtoi(host_port.second, &port));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  IV_CHECK(inet_pton(AF_INET, host_port.first.c_str(), &to.sin_addr) == 1);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  IV_CHECK(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
  IV_CHECK(write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size()));
  return ReadToEnd(fd);
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

}  // namespace image_variations
