// A TCP connection without gRPC, for peers that are silent, rude or gone.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "absl/strings/numbers.h"
#include "pipeline/base/status_macros.h"
#include "server/listen_socket.h"

namespace image_variations {

// To the port of `address`, HOST:PORT, on this machine.
inline FileDescriptor ConnectTo(const std::string& address) {
  int port = 0;
  IV_CHECK(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  IV_CHECK(connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  return fd;
}

}  // namespace image_variations
