// The client library: pictures in, variations out, over gRPC, with neither gRPC nor protobuf in
// sight.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/error_details.h"
#include "client/messages.h"

namespace image_variations::client {

// When a refused call is made again: at RESOURCE_EXHAUSTED if the server says how long to wait, and
// at UNAVAILABLE; only before the first variation has arrived, and only if the wait ends before the
// deadline.
struct RetryPolicy {
  int max_attempts = 4;                             // 1: never again
  absl::Duration first_backoff = absl::Seconds(1);  // doubles; where the server names no time
  absl::Duration max_backoff = absl::Seconds(30);
};

struct Retry {
  absl::Status why = {};     // what ended the attempt
  absl::Duration wait = {};  // until the next one
  int attempt = 0;           // number of the next one, from 2
};

// PEM text.
struct TlsOptions {
  std::string ca = {};  // who signs the server's certificate; empty: whom the system trusts
  std::string certificate = {};  // the caller's own; empty: none
  std::string key = {};          // of `certificate`
};

struct ConnectOptions {
  // "HOST:PORT" or "unix:PATH"; replicas that calls take in turn: "10.0.0.1:50051,10.0.0.2:50051",
  // or "dns:///NAME:PORT" for all addresses of a name.
  std::string address = {};
  std::optional<TlsOptions> tls = {};  // absent: plaintext
  std::string token = {};              // of the caller; empty: none
  RetryPolicy retry = {};
  int max_reply_bytes = 256 << 20;  // of one message
  // Calls take them in turn. Servers limit the calls of one connection at a time (often to 100);
  // the rest waits here, unseen by the server.
  int connections = 1;
  // The time and the wait between attempts; tests put their own here.
  std::function<absl::Time()> now = &absl::Now;
  std::function<void(absl::Duration)> sleep = &absl::SleepFor;
};

// What Vary reports while it runs, on the thread that called it, in the order it happens; each may
// be empty. A callback may take its time: the stream waits.
struct VaryEvents {
  std::function<void(const Admitted&)> on_admitted = {};
  std::function<void(const Progress&)> on_progress = {};    // empty: the server is not asked for it
  std::function<void(const Preview&)> on_preview = {};      // empty: the server is asked for none
  std::function<void(const Variation&)> on_variation = {};  // each sample as it ends
  std::function<void(const Retry&)> on_retry = {};
  // Set from any thread or from a signal handler, the call and the server's work end within 0.1 s
  // with CANCELLED. Must outlive the call.
  const std::atomic<bool>* cancelled = nullptr;
};

// What StartVary reports, on threads of the library, one at a time for one call, in the order it
// happens; each may be empty. A callback must not block and must not destroy the Client.
struct VaryCallbacks {
  std::function<void(const Admitted&)> on_admitted = {};
  std::function<void(const Progress&)> on_progress = {};    // empty: the server is not asked for it
  std::function<void(const Preview&)> on_preview = {};      // empty: the server is asked for none
  std::function<void(const Variation&)> on_variation = {};  // each sample as it ends
  // Exactly once and last, whatever happens; what Vary returns.
  std::function<void(absl::StatusOr<VariationResult>)> on_end = {};
};

class RunningCall;

// A call that StartVary began; it runs on when this is destroyed. A value; thread-safe.
class StartedCall {
 public:
  // The call ends with CANCELLED, unless it has ended.
  void Cancel() const;

 private:
  friend class Client;
  explicit StartedCall(std::weak_ptr<RunningCall> call) : call_(std::move(call)) {}

  std::weak_ptr<RunningCall> call_;
};

// One server. Thread-safe: calls may run at the same time on one Client; all but StartVary block
// their thread. Errors are the server's own statuses; DecodeErrorDetails has the rest. A call that
// could not be answered whole (a stream that breaks, a sample that is missing) is an error.
class Client {
 public:
  // Returns at once; the connection is made by the first call and made again when it is lost.
  // INVALID_ARGUMENT: no address, half a certificate, or a token that would travel in plaintext to
  // another machine.
  static absl::StatusOr<Client> Connect(ConnectOptions);

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();  // no call may be running

  absl::StatusOr<VariationResult> Vary(VariationRequest, const VaryEvents& = {}) const;

  // Vary for many at a time: returns at once and needs no thread until the end. Makes one attempt.
  StartedCall StartVary(VariationRequest, VaryCallbacks) const;

  // These make one attempt.
  absl::StatusOr<ModelDescription> GetModel(absl::Time deadline = absl::InfiniteFuture()) const;
  absl::StatusOr<ServerStatus> GetServerStatus(absl::Time deadline = absl::InfiniteFuture()) const;
  // `service` empty: the server as a whole. NOT_FOUND: it does not know the service.
  absl::StatusOr<ServingStatus> CheckHealth(const std::string& service = "",
                                            absl::Time deadline = absl::InfiniteFuture()) const;

 private:
  struct Connection;
  explicit Client(std::unique_ptr<const Connection>);

  std::unique_ptr<const Connection> connection_;
};

}  // namespace image_variations::client
