#include "server/decode_sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr int kSpareBytes = 32 << 20;  // beside what the decoder says it needs
constexpr rlim_t kCpuSeconds = 3;      // a second more than the decoder gives itself
constexpr time_t kWallSeconds = 20;    // of a process that waits for something
constexpr size_t kMaxMessageBytes = 4096;

struct Question {
  DecodeLimits limits;
  int64_t size = 0;          // of the picture, which follows
  int64_t memory_bytes = 0;  // that decoding may take
};

struct Answer {
  int32_t code = 0;  // absl::StatusCode
  int32_t width = 0;
  int32_t height = 0;
  uint64_t message_size = 0;  // what follows when not OK; else the pixels
};

bool SendAll(int fd, const void* from, size_t size) {
  for (const char* at = static_cast<const char*>(from); size > 0;) {
    const ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

bool ReceiveAll(int fd, void* to, size_t size) {
  for (char* at = static_cast<char*>(to); size > 0;) {
    const ssize_t received = read(fd, at, size);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) return false;
    at += received;
    size -= static_cast<size_t>(received);
  }
  return true;
}

// One descriptor over a socket, with one byte.
struct Passed {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
};

bool PassDescriptor(int control, int fd) {
  Passed passed;
  cmsghdr* const header = CMSG_FIRSTHDR(&passed.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(control, &passed.message, MSG_NOSIGNAL) == 1;
}

// -1: there will be no more.
int TakeDescriptor(int control) {
  Passed passed;
  ssize_t size = 0;
  do {
    size = recvmsg(control, &passed.message, MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  const cmsghdr* const header = CMSG_FIRSTHDR(&passed.message);
  if (size != 1 || header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

bool Limit(__rlimit_resource resource, rlim_t most) {
  const rlimit limit{.rlim_cur = most, .rlim_max = most};
  return setrlimit(resource, &limit) == 0;
}

bool LimitResources(int64_t memory_bytes) {
  int64_t mapped_pages = 0;
  std::ifstream("/proc/self/statm") >> mapped_pages;
  const int64_t most = mapped_pages * sysconf(_SC_PAGESIZE) + memory_bytes + kSpareBytes;
  const itimerval wall{.it_interval = {}, .it_value = {.tv_sec = kWallSeconds, .tv_usec = 0}};
  return mapped_pages > 0 && Limit(RLIMIT_AS, static_cast<rlim_t>(most)) &&
         Limit(RLIMIT_CPU, kCpuSeconds) && Limit(RLIMIT_CORE, 0) && Limit(RLIMIT_FSIZE, 0) &&
         Limit(RLIMIT_NOFILE, 0) && setitimer(ITIMER_REAL, &wall, nullptr) == 0;
}

// What malloc, read and send need; no memory becomes code.
bool FilterSystemCalls() {
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (filter == nullptr) return false;
  // SCMP_A2 is no C++.
  constexpr scmp_arg_cmp kNotExecutable{
      .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0};
  bool ok = true;
  for (const int call : {SCMP_SYS(read), SCMP_SYS(sendto), SCMP_SYS(brk), SCMP_SYS(munmap),
                         SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(exit_group),
                         SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigreturn)}) {
    ok = ok && seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0) == 0;
  }
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) {
    ok = ok && seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, kNotExecutable) == 0;
  }
  ok = ok && seccomp_load(filter) == 0;
  seccomp_release(filter);
  return ok;
}

// In the process of one picture.
bool AnswerOne(int socket, DecodeSandbox::Decoder decoder) {
  Question question;
  if (!ReceiveAll(socket, &question, sizeof question)) return false;
  if (!LimitResources(question.memory_bytes) || !FilterSystemCalls()) return false;
  std::string bytes(static_cast<size_t>(question.size), '\0');
  if (!ReceiveAll(socket, bytes.data(), bytes.size())) return false;
  const absl::StatusOr<Image> image = decoder(bytes, question.limits);
  if (!image.ok()) {
    const absl::string_view message = image.status().message().substr(0, kMaxMessageBytes);
    const Answer answer{.code = static_cast<int32_t>(image.status().code()),
                        .message_size = message.size()};
    return SendAll(socket, &answer, sizeof answer) &&
           SendAll(socket, message.data(), message.size());
  }
  const Answer answer{.width = image->width, .height = image->height};
  return SendAll(socket, &answer, sizeof answer) &&
         SendAll(socket, image->rgb.data(), image->rgb.size());
}

[[noreturn]] void RunPicture(int socket, DecodeSandbox::Decoder decoder) {
  constexpr int kOnly = 3;
  dup3(socket, kOnly, 0);
  for (const int standard : {0, 1, 2}) close(standard);
  close_range(kOnly + 1, ~0U, 0);
  _exit(AnswerOne(kOnly, decoder) ? 0 : 1);
}

// Signals of a terminal are the server's to hear: this process ends when the server's socket does.
[[noreturn]] void RunForker(int control, DecodeSandbox::Decoder decoder) {
  for (const int ignored : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGPIPE}) signal(ignored, SIG_IGN);
  for (int socket = TakeDescriptor(control); socket >= 0; socket = TakeDescriptor(control)) {
    if (fork() == 0) RunPicture(socket, decoder);
    close(socket);
  }
  _exit(0);
}

absl::Status Died() {
  return absl::InternalError("the process that decoded this picture ended without an answer");
}

// The other side may be under the picture's command: nothing of it is taken on trust.
absl::StatusOr<Image> ReadAnswer(int socket, const ImageHeader& header) {
  Answer answer;
  if (!ReceiveAll(socket, &answer, sizeof answer)) return Died();
  if (answer.code != 0) {
    const auto code = static_cast<absl::StatusCode>(answer.code);
    if (absl::StatusCodeToString(code).empty() || answer.message_size > kMaxMessageBytes) {
      return Died();
    }
    std::string message(answer.message_size, '\0');
    if (!ReceiveAll(socket, message.data(), message.size())) return Died();
    return absl::Status(code, message);
  }
  if (answer.width != header.width || answer.height != header.height) return Died();
  Image image{header.width, header.height, {}};
  image.rgb.resize(RgbBytes(image.width, image.height));
  if (!ReceiveAll(socket, image.rgb.data(), image.rgb.size())) return Died();
  return image;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DecodeSandbox>> DecodeSandbox::Start(Decoder decoder) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::UnavailableError(absl::StrCat("no socket for --decode-sandbox: errno ", errno));
  }
  FileDescriptor mine(ends[0]), its(ends[1]);
  const pid_t pid = fork();
  if (pid == 0) {
    mine.Close();
    RunForker(its.get(), decoder);
  }
  if (pid < 0) {
    return absl::UnavailableError(absl::StrCat("no process for --decode-sandbox: errno ", errno));
  }
  return std::unique_ptr<DecodeSandbox>(new DecodeSandbox(std::move(mine), pid));
}

DecodeSandbox::~DecodeSandbox() {
  is_closing_ = true;
  shutdown(control_.get(), SHUT_RDWR);
  if (watcher_.joinable()) watcher_.join();
  waitpid(forker_, nullptr, 0);
}

void DecodeSandbox::Watch(absl::AnyInvocable<void()> on_lost) {
  watcher_ = std::thread([this, on_lost = std::move(on_lost)]() mutable {
    pollfd event{.fd = control_.get(), .events = 0, .revents = 0};  // its end is always told
    while (poll(&event, 1, -1) < 1) {
    }
    if (!is_closing_) on_lost();
  });
}

absl::StatusOr<Image> DecodeSandbox::Decode(absl::string_view bytes,
                                            const DecodeLimits& limits) const {
  ASSIGN_OR_RETURN(const ImageHeader header, PeekImage(bytes, limits));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ResourceExhaustedError("no socket for a picture");
  }
  const FileDescriptor mine(ends[0]);
  FileDescriptor its(ends[1]);
  if (!PassDescriptor(control_.get(), its.get())) {
    return absl::UnavailableError("no process can be started for a picture: the server stops");
  }
  its.Close();
  const Question question{.limits = limits,
                          .size = static_cast<int64_t>(bytes.size()),
                          .memory_bytes = header.decode_bytes + static_cast<int64_t>(bytes.size())};
  // A process that dies early is noticed by the missing answer.
  if (SendAll(mine.get(), &question, sizeof question)) {
    static_cast<void>(SendAll(mine.get(), bytes.data(), bytes.size()));
  }
  return ReadAnswer(mine.get(), header);
}

}  // namespace image_variations
