// The real programs as child processes, for system tests.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/client.h"
#include "tests/support/process.h"

namespace image_variations {

Finished RunServer(const std::vector<std::string>& arguments);
Finished RunCli(const std::vector<std::string>& arguments, const std::string& input = "");

// A server on free ports with the bundled model; serving when the constructor returns.
class ServerProcess {
 public:
  explicit ServerProcess(const std::vector<std::string>& more_arguments = {});

  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  client::Client Connect() const;  // makes one attempt per call

  void Signal(int signal) const { process_.Signal(signal); }
  int WaitForExit() { return process_.WaitForExit(); }  // as Finished::exit_code
  std::string Metrics() const;                          // the text at metrics_address()/metrics

 private:
  ChildProcess process_;
  std::string address_, metrics_address_;
};

std::string ReadFile(const std::filesystem::path&);

inline const std::filesystem::path kModel = "demo/model";
inline const std::filesystem::path kPictures = "demo/pictures";

}  // namespace image_variations
