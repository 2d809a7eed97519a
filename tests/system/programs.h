// The real programs as child processes, for system tests.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/client.h"

namespace image_variations {

struct Finished {
  int exit_code = -1;  // 128 + n: ended by signal n
  std::string output;  // stdout
  std::string errors;  // stderr
};

// Runs a program to its end; `input` goes to its stdin.
Finished RunToEnd(const std::string& program, const std::vector<std::string>& arguments,
                  const std::string& input = "");
Finished RunServer(const std::vector<std::string>& arguments);
Finished RunCli(const std::vector<std::string>& arguments, const std::string& input = "");

// A server on free ports with the bundled model; serving when the constructor returns.
class ServerProcess {
 public:
  explicit ServerProcess(const std::vector<std::string>& more_arguments = {});
  ~ServerProcess();  // kills it when it still runs
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  client::Client Connect() const;  // makes one attempt per call

  void Signal(int signal) const;
  int WaitForExit();            // as Finished::exit_code
  std::string Metrics() const;  // the text at metrics_address()/metrics

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string address_, metrics_address_;
};

std::string ReadFile(const std::filesystem::path&);

inline const std::filesystem::path kModel = "demo/model";
inline const std::filesystem::path kPictures = "demo/pictures";

}  // namespace image_variations
