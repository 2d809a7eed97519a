#include "server/connection_acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/time/clock.h"
#include "pipeline/base/log.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr int kReservedFiles = 16;  // for what the process opens later: models, keys, metrics
constexpr absl::Duration kPause = absl::Milliseconds(100);  // when the system has no memory

// Connections that leave the process kReservedFiles.
int RoomForConnections() {
  rlimit limit{};
  IV_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  std::error_code error;
  const auto open = std::distance(std::filesystem::directory_iterator("/proc/self/fd", error), {});
  const auto room = static_cast<int64_t>(limit.rlim_cur) - open - kReservedFiles;
  return static_cast<int>(std::clamp<int64_t>(room, 1, 1 << 20));
}

int CheckedLimit(int max_connections) {
  const int room = RoomForConnections();
  if (room >= max_connections) return max_connections;
  Log(Severity::kWarning, "few open files allowed: fewer connections than configured",
      {{"connections", room}, {"configured", max_connections}});
  return room;
}

FileDescriptor OpenSpare() { return FileDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

// 0: not open.
ino_t InodeOf(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

ConnectionAcceptor::ConnectionAcceptor(const ListenSocket& socket, int max_connections,
                                       ConnectionOwner& owner)
    : listening_(socket.fd.get()),
      max_connections_(CheckedLimit(max_connections)),
      owner_(owner),
      spare_(OpenSpare()),
      stop_(eventfd(0, EFD_CLOEXEC)) {
  IV_CHECK(stop_.get() >= 0);
  thread_ = std::thread([this] { Run(); });
}

void ConnectionAcceptor::Stop() {
  if (!thread_.joinable()) return;
  IV_CHECK(eventfd_write(stop_.get(), 1) == 0);
  thread_.join();
}

void ConnectionAcceptor::HangUp(absl::Duration timeout) {
  constexpr absl::Duration kInterval = absl::Milliseconds(2);
  Stop();
  ForgetClosed();
  for (const Taken& one : taken_) shutdown(one.fd, SHUT_RDWR);
  for (auto waited = absl::ZeroDuration(); waited < timeout; waited += kInterval) {
    ForgetClosed();
    if (taken_.empty()) return;
    absl::SleepFor(kInterval);
  }
}

void ConnectionAcceptor::Run() {
  pollfd events[] = {{listening_, POLLIN, 0}, {stop_.get(), POLLIN, 0}};
  while (true) {
    poll(events, 2, -1);
    if (events[1].revents != 0) return;
    AcceptAll();
  }
}

void ConnectionAcceptor::AcceptAll() {
  while (true) {
    FileDescriptor connection(accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.get() >= 0) {
      Take(std::move(connection));
      continue;
    }
    switch (errno) {
      case EAGAIN:
        return;
      case EMFILE:
      case ENFILE:
        ShedOne();
        return;
      case ENOBUFS:
      case ENOMEM:
        Sleep(kPause);
        return;
      default:  // that caller's own trouble: accept(2), "Error handling"
        return;
    }
  }
}

void ConnectionAcceptor::Take(FileDescriptor connection) {
  if (IsFull()) {
    owner_.OnRefused();
    return;
  }
  taken_.push_back({connection.get(), InodeOf(connection.get())});
  owner_.Take(std::move(connection));
}

// Without it the caller would stay in line, and poll(2) would never rest.
void ConnectionAcceptor::ShedOne() {
  spare_.Close();
  FileDescriptor connection(accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC));
  const bool was_shed = connection.get() >= 0;
  connection.Close();
  spare_ = OpenSpare();
  if (was_shed) owner_.OnRefused();
  if (!was_shed || spare_.get() < 0) Sleep(kPause);
}

bool ConnectionAcceptor::IsFull() {
  if (taken_.size() < static_cast<size_t>(max_connections_)) return false;
  ForgetClosed();
  return taken_.size() >= static_cast<size_t>(max_connections_);
}

void ConnectionAcceptor::ForgetClosed() {
  std::erase_if(taken_, [](const Taken& one) { return InodeOf(one.fd) != one.inode; });
}

void ConnectionAcceptor::Sleep(absl::Duration time) const {
  pollfd stop{stop_.get(), POLLIN, 0};
  poll(&stop, 1, static_cast<int>(absl::ToInt64Milliseconds(time)));
}

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace image_variations
