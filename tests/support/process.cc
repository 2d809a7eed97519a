#include "tests/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <utility>

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

}  // namespace

std::string ReadToEnd(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return text;
}

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

ChildProcess::ChildProcess(const std::string& program, const std::vector<std::string>& arguments) {
  Pipe out;
  pid_ = Spawn(program, arguments, -1, out.ends[1], -1);
  close(out.ends[1]);
  output_ = out.ends[0];
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) {
    Signal(SIGKILL);
    WaitForExit();
  }
  close(output_);
}

std::string ChildProcess::ReadLine() {
  std::string line;
  for (char c = 0; read(output_, &c, 1) == 1 && c != '\n';) line.push_back(c);
  return line;
}

void ChildProcess::Signal(int signal) const { IV_CHECK(kill(pid_, signal) == 0); }

int ChildProcess::WaitForExit() { return Wait(std::exchange(pid_, -1)); }

}  // namespace image_variations
