#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/terminal.h"

namespace {

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may set it");

// The first Ctrl-C ends the call in good order, the second one the program.
void StopOnInterrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

int main(int count, char** words) {
  std::ios::sync_with_stdio(false);
  StopOnInterrupt();
  const image_variations::client::Terminal terminal{.in = std::cin,
                                                    .out = std::cout,
                                                    .err = std::cerr,
                                                    .in_is_terminal = isatty(STDIN_FILENO) == 1,
                                                    .out_is_terminal = isatty(STDOUT_FILENO) == 1,
                                                    .err_is_terminal = isatty(STDERR_FILENO) == 1,
                                                    .interrupted = interrupted,
                                                    .now = &absl::Now,
                                                    .sleep = &absl::SleepFor};
  return image_variations::client::RunCli(std::vector<std::string>(words + 1, words + count),
                                          terminal);
}
