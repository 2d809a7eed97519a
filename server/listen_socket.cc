#include "server/listen_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr int kBacklog = 1024;

struct HostPort {
  std::string host;  // without the brackets of IPv6
  std::string port;
};

absl::StatusOr<HostPort> Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address, "\" is no HOST:PORT, such as 127.0.0.1:50051"));
  }
  std::string host = address.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return HostPort{std::move(host), address.substr(colon + 1)};
}

struct FreeAddresses {
  void operator()(addrinfo* found) const { freeaddrinfo(found); }
};

absl::StatusOr<std::unique_ptr<addrinfo, FreeAddresses>> Resolve(const std::string& address) {
  ASSIGN_OR_RETURN(const HostPort place, Split(address));
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(place.host.c_str(), place.port.c_str(), &hints, &found);
      error != 0) {
    return absl::InvalidArgumentError(absl::StrCat(address, ": ", gai_strerror(error)));
  }
  return std::unique_ptr<addrinfo, FreeAddresses>(found);
}

absl::StatusOr<FileDescriptor> Bind(const addrinfo& info) {
  FileDescriptor fd(
      socket(info.ai_family, info.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, info.ai_protocol));
  const int on = 1;
  if (fd.get() < 0 || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      bind(fd.get(), info.ai_addr, info.ai_addrlen) != 0 || listen(fd.get(), kBacklog) != 0) {
    return absl::UnavailableError(std::strerror(errno));
  }
  return fd;
}

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& ip = reinterpret_cast<const sockaddr_in&>(address);
    return ntohl(ip.sin_addr.s_addr) >> 24 == 127;
  }
  return address.sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void FileDescriptor::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

absl::StatusOr<ListenSocket> ListenSocket::Open(const std::string& address) {
  ASSIGN_OR_RETURN(const auto found, Resolve(address));
  absl::StatusOr<FileDescriptor> fd = Bind(*found);
  if (!fd.ok()) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, ": ", fd.status().message()));
  }
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  auto& taken = reinterpret_cast<sockaddr&>(bound);
  char host[NI_MAXHOST] = "";
  char port[NI_MAXSERV] = "";
  IV_CHECK(getsockname(fd->get(), &taken, &size) == 0);
  IV_CHECK(getnameinfo(&taken, size, host, sizeof host, port, sizeof port,
                       NI_NUMERICHOST | NI_NUMERICSERV) == 0);
  const bool is_ipv6 = taken.sa_family == AF_INET6;
  return ListenSocket{
      .fd = *std::move(fd),
      .address = absl::StrCat(address.substr(0, address.rfind(':')), ":", port),
      .numeric = absl::StrCat(is_ipv6 ? "[" : "", host, is_ipv6 ? "]:" : ":", port),
      .is_loopback = IsLoopback(taken),
  };
}

}  // namespace image_variations
