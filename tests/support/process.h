// Child processes, for tests of programs.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace image_variations {

struct Finished {
  int exit_code = -1;  // 128 + n: ended by signal n
  std::string output;  // stdout
  std::string errors;  // stderr
};

// Runs a program to its end; `input` goes to its stdin.
Finished RunToEnd(const std::string& program, const std::vector<std::string>& arguments,
                  const std::string& input = "");

// What can be read from `fd`, which it closes.
std::string ReadToEnd(int fd);

// A program that runs beside the test, which reads its stdout; stderr is the test's own.
class ChildProcess {
 public:
  ChildProcess(const std::string& program, const std::vector<std::string>& arguments);
  ~ChildProcess();  // kills it when it still runs
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  std::string ReadLine();  // of stdout; "" at its end
  pid_t id() const { return pid_; }
  void Signal(int signal) const;
  int WaitForExit();  // as Finished::exit_code

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

}  // namespace image_variations
