#include "tests/system/programs.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/base/status_macros.h"

extern char** environ;

namespace image_variations {
namespace {

struct Pipe {
  Pipe() { IV_CHECK(pipe2(ends, O_CLOEXEC) == 0); }
  int ends[2];
};

// Standard streams of the child; -1: this process's own.
pid_t Spawn(const std::string& program, const std::vector<std::string>& arguments, int input,
            int output, int errors) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const auto& [from, to] : {std::pair(input, 0), std::pair(output, 1), std::pair(errors, 2)}) {
    if (from >= 0) posix_spawn_file_actions_adddup2(&actions, from, to);
  }
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  IV_CHECK(posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

int Wait(pid_t pid) {
  int status = 0;
  IV_CHECK(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string ReadToEnd(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return text;
}

std::string ReadLine(int fd) {
  std::string line;
  for (char c = 0; read(fd, &c, 1) == 1 && c != '\n';) line.push_back(c);
  return line;
}

std::vector<std::string> With(std::vector<std::string> arguments,
                              const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

Finished RunToEnd(const std::string& program, const std::vector<std::string>& arguments,
                  const std::string& input) {
  Pipe in, out, err;
  const pid_t pid = Spawn(program, arguments, in.ends[0], out.ends[1], err.ends[1]);
  close(in.ends[0]);
  close(out.ends[1]);
  close(err.ends[1]);
  std::thread writer([&] {
    signal(SIGPIPE, SIG_IGN);
    [[maybe_unused]] const ssize_t written = write(in.ends[1], input.data(), input.size());
    close(in.ends[1]);
  });
  Finished finished;
  std::thread reader([&] { finished.errors = ReadToEnd(err.ends[0]); });
  finished.output = ReadToEnd(out.ends[0]);
  reader.join();
  writer.join();
  finished.exit_code = Wait(pid);
  return finished;
}

Finished RunServer(const std::vector<std::string>& arguments) {
  return RunToEnd(IV_SERVER_PROGRAM,
                  With({"--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"}, arguments));
}

Finished RunCli(const std::vector<std::string>& arguments, const std::string& input) {
  return RunToEnd(IV_CLI_PROGRAM, arguments, input);
}

ServerProcess::ServerProcess(const std::vector<std::string>& more_arguments) {
  Pipe out;
  pid_ = Spawn(IV_SERVER_PROGRAM,
               With({"--model", kModel, "--listen", "127.0.0.1:0", "--metrics-listen",
                     "127.0.0.1:0", "--log-level", "warning"},
                    more_arguments),
               -1, out.ends[1], -1);
  close(out.ends[1]);
  output_ = out.ends[0];
  const std::string first = ReadLine(output_);
  const std::string second = ReadLine(output_);
  IV_CHECK(first.starts_with("listening on ") && second.starts_with("metrics on "));
  address_ = first.substr(sizeof "listening on " - 1);
  metrics_address_ = second.substr(sizeof "metrics on " - 1);
}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) {
    Signal(SIGKILL);
    WaitForExit();
  }
  close(output_);
}

client::Client ServerProcess::Connect() const {
  return *client::Client::Connect({.address = address_, .retry = {.max_attempts = 1}});
}

void ServerProcess::Signal(int signal) const { IV_CHECK(kill(pid_, signal) == 0); }

int ServerProcess::WaitForExit() { return Wait(std::exchange(pid_, -1)); }

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
