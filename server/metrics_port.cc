#include "server/metrics_port.h"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "pipeline/base/status_macros.h"
#include "server/listen_socket.h"
#include "server/self_dial.h"

// Instead of glibc's, for every library. civetweb wants stacks of 100 KiB, and glibc takes what is
// thread_local in shared libraries out of them: with CUDA's it would start no thread, and throw.
extern "C" int pthread_attr_setstacksize(pthread_attr_t* attributes, size_t bytes) noexcept {
  constexpr size_t kLeast = 1 << 20;
  using SetStackSize = int (*)(pthread_attr_t*, size_t);
  static const auto set =
      reinterpret_cast<SetStackSize>(dlsym(RTLD_NEXT, "pthread_attr_setstacksize"));
  return set(attributes, std::max(bytes, kLeast));
}

namespace image_variations {

absl::StatusOr<MetricsPort> MetricsPort::Open(
    const std::string& address, const std::shared_ptr<prometheus::Registry>& registry) {
  ASSIGN_OR_RETURN(ListenSocket socket, ListenSocket::Open(address));
  socket.fd.Close();  // civetweb binds for itself, and throws or says nothing when it cannot
  const auto host_of = [](const std::string& place) { return place.substr(0, place.rfind(':')); };
  MetricsPort port;
  port.exposer_ = std::make_unique<prometheus::Exposer>(
      absl::StrCat(host_of(socket.numeric), address.substr(address.rfind(':'))));
  port.exposer_->RegisterCollectable(registry);
  port.process_ = std::make_shared<ProcessMetrics>();
  port.exposer_->RegisterCollectable(port.process_);
  const int number = port.exposer_->GetListeningPorts()[0];
  port.address_ = absl::StrCat(host_of(address), ":", number);
  port.numeric_ = absl::StrCat(host_of(socket.numeric), ":", number);
  return port;
}

// civetweb looks at its stop flag every two seconds, and when somebody calls.
MetricsPort::~MetricsPort() {
  if (exposer_ == nullptr) return;
  std::atomic<bool> is_stopped = false;
  std::thread caller([&] {
    while (!is_stopped) {
      static_cast<void>(DialOnce(numeric_, /*uses_tls=*/false, absl::Milliseconds(10)));
      absl::SleepFor(absl::Milliseconds(1));
    }
  });
  exposer_.reset();
  is_stopped = true;
  caller.join();
}

}  // namespace image_variations
