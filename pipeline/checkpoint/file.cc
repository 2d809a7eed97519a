#include "pipeline/checkpoint/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

absl::Status WhyNotOpen(const std::string& path, int error) {
  if (error == ELOOP) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a loop of symbolic links"));
  }
  if (error != ENOENT) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": ", std::strerror(error)));
  }
  char target[PATH_MAX];
  const ssize_t size = readlink(path.c_str(), target, sizeof target);
  if (size < 0) return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  return absl::NotFoundError(
      absl::StrCat(path, ": a link to ", absl::string_view(target, static_cast<size_t>(size)),
                   ", which does not exist; mount or copy the whole cache that it points into"));
}

}  // namespace

absl::StatusOr<File> File::Open(const std::string& path) {
  // Without O_NONBLOCK, a pipe in a file's place would be waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return WhyNotOpen(path, errno);
  File file(path, fd, 0);
  struct stat status {};
  if (fstat(fd, &status) != 0) return WhyNotOpen(path, errno);
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  if (status.st_size == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": empty file"));
  file.size_ = status.st_size;
  return file;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<int64_t> File::Read(absl::Span<char> buffer) {
  std::size_t total = 0;
  while (total < buffer.size()) {
    const ssize_t count = read(fd_, buffer.data() + total, buffer.size() - total);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return absl::DataLossError(absl::StrCat(path_, ": reading failed: ", std::strerror(errno)));
    }
    if (count == 0) break;
    total += static_cast<std::size_t>(count);
  }
  return static_cast<int64_t>(total);
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(File file, File::Open(path));
  if (file.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file.size(), " bytes, limit ", max_bytes));
  }
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  ASSIGN_OR_RETURN(const int64_t count, file.Read(absl::MakeSpan(text)));
  text.resize(static_cast<std::size_t>(count));
  const absl::Status status = CheckNotLfsPointer(text);
  if (status.ok()) return text;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", status.message()));
}

absl::Status CheckNotLfsPointer(absl::string_view first_bytes) {
  if (!absl::StartsWith(first_bytes, "version https://git-lfs.github.com/spec/")) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "a git-LFS pointer in place of the file; run `git lfs pull` where it was cloned");
}

}  // namespace image_variations
