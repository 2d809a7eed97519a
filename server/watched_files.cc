#include "server/watched_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/listen_socket.h"

namespace image_variations {
namespace {

constexpr size_t kMaxBytes = 4 << 20;

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) {
    return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  }
  std::string content;
  char buffer[8192];
  ssize_t count = 0;
  while ((count = read(fd.get(), buffer, sizeof buffer)) > 0) {
    content.append(buffer, static_cast<size_t>(count));
    if (content.size() > kMaxBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": more than ", kMaxBytes, " bytes"));
    }
  }
  if (count < 0) return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno)));
  return content;
}

bool WatchedFiles::HaveChanged() {
  std::vector<Stamp> now;
  for (const std::string& path : paths_) now.push_back(StampOf(path));
  if (now == seen_) return false;
  seen_ = std::move(now);
  return true;
}

WatchedFiles::Stamp WatchedFiles::StampOf(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return {};
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = status.st_size,
          .modified_ns = Nanoseconds(status.st_mtim),
          .changed_ns = Nanoseconds(status.st_ctim)};
}

}  // namespace image_variations
