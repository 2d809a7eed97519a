#include "client/cli/files.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"

namespace image_variations::client {
namespace {

namespace fs = std::filesystem;

absl::Status FileError(absl::string_view what, int error) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      absl::StrCat(what, ": ", std::generic_category().message(error)));
}

absl::StatusOr<std::string> ReadAll(std::istream& in) {
  std::string bytes;
  std::string chunk(1 << 16, '\0');
  while (in.read(chunk.data(), static_cast<std::streamsize>(chunk.size())) || in.gcount() > 0) {
    bytes.append(chunk, 0, static_cast<size_t>(in.gcount()));
    if (static_cast<int64_t>(bytes.size()) > kMaxPictureBytes) {
      return absl::OutOfRangeError(
          absl::StrCat("larger than ", kMaxPictureBytes >> 20, " MiB, the limit here"));
    }
  }
  return bytes;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return FileError("cannot be read", EISDIR);
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) return FileError("cannot be read", errno != 0 ? errno : EIO);
  return ReadAll(in);
}

absl::Status WriteWhole(const std::string& path, absl::string_view bytes) {
  std::error_code ignored;
  const bool device = fs::exists(path, ignored) && !fs::is_regular_file(path, ignored);
  const std::string part = device ? path : absl::StrCat(path, ".part");
  errno = 0;
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out || (!device && std::rename(part.c_str(), path.c_str()) != 0)) {
    const int error = errno != 0 ? errno : EIO;
    if (!device) std::remove(part.c_str());
    return FileError(absl::StrCat(path, " cannot be written"), error);
  }
  return absl::OkStatus();
}

bool HasContent(const std::string& path, absl::string_view bytes) {
  std::error_code error;
  if (fs::file_size(path, error) != bytes.size() || error) return false;
  const absl::StatusOr<std::string> content = ReadFile(path);
  return content.ok() && *content == bytes;
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

std::string Numbered(const fs::path& path, int number) {
  return (path.parent_path() /
          absl::StrCat(path.stem().string(), "-", number, path.extension().string()))
      .string();
}

std::string StemOf(const std::string& picture) {
  if (picture == "-") return "stdin";
  const std::string stem = fs::path(picture).stem().string();
  return stem.empty() ? "picture" : stem;
}

}  // namespace

absl::StatusOr<std::string> ReadPicture(const std::string& path, std::istream& standard_input) {
  return path == "-" ? ReadAll(standard_input) : ReadFile(path);
}

std::vector<std::string> MakeStems(const std::vector<std::string>& pictures) {
  std::set<std::string> taken;
  std::vector<std::string> stems;
  for (const std::string& picture : pictures) {
    const std::string stem = StemOf(picture);
    std::string unique = stem;
    for (int number = 2; !taken.insert(unique).second; ++number) {
      unique = absl::StrCat(stem, "-", number);
    }
    stems.push_back(unique);
  }
  return stems;
}

std::string VariationFileName(const std::string& stem, int index, int64_t seed,
                              absl::string_view mime_type) {
  return absl::StrCat(stem, "-", index, "-seed", seed, mime_type == "image/jpeg" ? ".jpg" : ".png");
}

std::string PreviewFileName(const std::string& stem, int index, int step,
                            absl::string_view mime_type) {
  return absl::StrCat(stem, "-", index, "-step", step, mime_type == "image/jpeg" ? ".jpg" : ".png");
}

absl::StatusOr<WrittenFile> WriteResult(const std::string& path, absl::string_view bytes,
                                        Existing existing) {
  WrittenFile written{.path = path, .note = {}};
  for (int number = 2; Exists(written.path); ++number) {
    if (HasContent(written.path, bytes)) return written;
    if (existing == Existing::kReplace) {
      written.note = absl::StrCat("replaced ", path);
      break;
    }
    written.path = Numbered(path, number);
    written.note =
        absl::StrCat(path, " exists and is kept (--force replaces it); wrote ", written.path);
  }
  RETURN_IF_ERROR(WriteWhole(written.path, bytes));
  return written;
}

}  // namespace image_variations::client
