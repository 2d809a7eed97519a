// Accepts TCP connections, up to a number of them.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "server/listen_socket.h"

namespace image_variations {

// What becomes of connections. Called by the acceptor's thread alone; must not block.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  // Takes the connection over; it counts until its descriptor is closed.
  virtual void Take(FileDescriptor) = 0;
  // One was closed because there were too many already.
  virtual void OnRefused() {}
};

// gRPC 1.51's own listener stops for good when accept(2) fails once for want of a descriptor
// (CVE-2023-4785). This one keeps below the limit of descriptors, closes at once what comes beyond
// it, so that callers learn it and try elsewhere, and goes on whatever accept(2) says.
class ConnectionAcceptor {
 public:
  // Starts to accept. `owner` must outlive it. Fewer connections than `max_connections` are taken
  // when the process may not have as many open files.
  ConnectionAcceptor(const ListenSocket&, int max_connections, ConnectionOwner& owner);
  // Stops accepting; what was taken stays.
  ~ConnectionAcceptor() { Stop(); }
  ConnectionAcceptor(const ConnectionAcceptor&) = delete;
  ConnectionAcceptor& operator=(const ConnectionAcceptor&) = delete;

  int max_connections() const { return max_connections_; }

  // Stops accepting and hangs up on whom was taken, which makes the owner close: what was written
  // still arrives. Returns when all are closed, or after `timeout`.
  void HangUp(absl::Duration timeout);

 private:
  // A socket as it was when it was taken: once it is closed, its number names nothing or another.
  struct Taken {
    int fd;
    ino_t inode;
  };

  void Run();
  void Stop();
  void AcceptAll();
  void Take(FileDescriptor);
  void ShedOne();
  bool IsFull();
  void ForgetClosed();
  void Sleep(absl::Duration) const;

  const int listening_;
  const int max_connections_;
  ConnectionOwner& owner_;
  FileDescriptor spare_;  // given up for a moment to close a caller for whom there is no descriptor
  FileDescriptor stop_;   // an eventfd
  std::vector<Taken> taken_;
  std::thread thread_;
};

// Raises the soft limit of open files to the hard one.
void RaiseFileLimit();

}  // namespace image_variations
