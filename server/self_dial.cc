#include "server/self_dial.h"

#include <netdb.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"
#include "server/listen_socket.h"
#include "server/openssl_handles.h"

namespace image_variations {
namespace {

using SslContextPtr = std::unique_ptr<SSL_CTX, OpenSslDeleter<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, OpenSslDeleter<SSL_free>>;

constexpr unsigned char kAlpn[] = {2, 'h', '2'};
// RFC 9113, 3.4: the client's preface and an empty SETTINGS frame.
constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
constexpr size_t kFrameHeaderBytes = 9;
constexpr size_t kFrameType = 3;  // its place in the header
constexpr char kSettings = 4;

absl::Status Failure(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// A blocking socket whose every operation takes at most `timeout`.
absl::StatusOr<FileDescriptor> Connect(const std::string& address, absl::Duration timeout) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(address, " is no number"));
  }
  const std::unique_ptr<addrinfo, OpenSslDeleter<freeaddrinfo>> owner(found);
  FileDescriptor fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit = absl::ToTimeval(timeout);
  if (fd.get() < 0 || setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
      setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 ||
      connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0) {
    return Failure("connect");
  }
  return fd;
}

absl::Status ShakeHands(int fd) {
  const OpenSslErrorScope errors;
  const SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  const SslPtr ssl(SSL_new(context.get()));
  if (ssl == nullptr) return absl::ResourceExhaustedError("no TLS context");
  SSL_set_alpn_protos(ssl.get(), kAlpn, sizeof kAlpn);
  SSL_set_fd(ssl.get(), fd);
  if (SSL_connect(ssl.get()) != 1) return Failure("TLS handshake");
  return absl::OkStatus();
}

absl::Status ExchangeSettings(int fd) {
  if (send(fd, kPreface, sizeof kPreface - 1, MSG_NOSIGNAL) != sizeof kPreface - 1) {
    return Failure("send");
  }
  char header[kFrameHeaderBytes];
  if (recv(fd, header, sizeof header, MSG_WAITALL) != sizeof header) return Failure("receive");
  if (header[kFrameType] != kSettings) return absl::UnavailableError("the answer is not HTTP/2");
  return absl::OkStatus();
}

}  // namespace

absl::Status DialOnce(const std::string& address, bool uses_tls, absl::Duration timeout) {
  ASSIGN_OR_RETURN(const FileDescriptor fd, Connect(address, timeout));
  return uses_tls ? ShakeHands(fd.get()) : ExchangeSettings(fd.get());
}

SelfDial::SelfDial(SelfDialOptions options, std::function<void(bool is_reachable)> on_change)
    : options_(std::move(options)), on_change_(std::move(on_change)) {
  thread_ = std::thread([this] { Run(); });
}

SelfDial::~SelfDial() {
  stop_.Notify();
  thread_.join();
}

void SelfDial::Run() {
  sigset_t broken_pipes;  // OpenSSL writes without MSG_NOSIGNAL
  sigemptyset(&broken_pipes);
  sigaddset(&broken_pipes, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipes, nullptr);

  int failures = 0;
  while (!stop_.WaitForNotificationWithTimeout(options_.interval)) {
    const absl::Status dialed = DialOnce(options_.address, options_.uses_tls, options_.timeout);
    if (dialed.ok() && failures >= options_.failures_to_notice) {
      Log(Severity::kInfo, "the own port answers again", {{"address", options_.address}});
      on_change_(true);
    }
    failures = dialed.ok() ? 0 : failures + 1;
    if (failures == options_.failures_to_notice) {
      Log(Severity::kError, "the own port does not answer",
          {{"address", options_.address}, {"why", dialed.message()}});
      on_change_(false);
    }
  }
}

}  // namespace image_variations
