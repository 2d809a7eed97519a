// fake_server as a child process: the whole server program, without networks.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "pipeline/base/status_macros.h"
#include "tests/support/process.h"

namespace image_variations {

// Serves when the constructor returns, on free ports.
class FakeServerProcess {
 public:
  // `max_files`: how many it may have open; 0: as many as this process.
  explicit FakeServerProcess(std::vector<std::string> flags = {},
                             const std::string& step_time = "0s", int max_files = 0)
      : process_(max_files > 0 ? "/usr/bin/prlimit" : IV_FAKE_SERVER_PROGRAM,
                 Arguments(std::move(flags), step_time, max_files)) {
    const std::string listening = process_.ReadLine();
    const std::string metrics = process_.ReadLine();
    IV_CHECK(listening.starts_with(kListening));
    address_ = listening.substr(sizeof kListening - 1);
  }

  const std::string& address() const { return address_; }
  // The next line of stdout.
  std::string ReadLine() { return process_.ReadLine(); }
  pid_t id() const { return process_.id(); }
  void Signal(int signal) const { process_.Signal(signal); }
  int WaitForExit() { return process_.WaitForExit(); }

  // A connection of its own.
  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  }

 private:
  static constexpr char kListening[] = "listening on ";
  static constexpr char kFreePort[] = "=127.0.0.1:0";

  static std::vector<std::string> Arguments(std::vector<std::string> flags,
                                            const std::string& step_time, int max_files) {
    std::vector<std::string> arguments = {step_time};
    for (const std::string name : {"--listen", "--metrics-listen", "--log-level"}) {
      const bool is_given = std::any_of(flags.begin(), flags.end(), [&](const std::string& flag) {
        return flag.starts_with(name + "=");
      });
      if (!is_given) arguments.push_back(name + (name == "--log-level" ? "=warning" : kFreePort));
    }
    if (max_files > 0) {
      arguments.insert(arguments.begin(),
                       {"--nofile=" + std::to_string(max_files), IV_FAKE_SERVER_PROGRAM});
    }
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return arguments;
  }

  ChildProcess process_;
  std::string address_;
};

}  // namespace image_variations
