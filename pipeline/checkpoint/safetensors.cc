#include "pipeline/checkpoint/safetensors.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/memory_guard.h"
#include "pipeline/base/sha256.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/file.h"

namespace image_variations {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kHeaderLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation

// Whole pages, also those shared with a neighbour: they are clean, and come back when read.
void ReleasePages(absl::Span<const char> bytes) {
  if (bytes.empty()) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t into_page = reinterpret_cast<uintptr_t>(bytes.data()) % page;
  madvise(const_cast<char*>(bytes.data() - into_page), bytes.size() + into_page, MADV_DONTNEED);
}

}  // namespace

class SafetensorsFile::Mapping {
 public:
  static absl::StatusOr<std::shared_ptr<const Mapping>> Map(const File& file) {
    const size_t size = static_cast<size_t>(file.size());
    void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd(), 0);
    if (data == MAP_FAILED) {
      return absl::ResourceExhaustedError(absl::StrCat("mapping it failed: ", strerror(errno)));
    }
    return std::shared_ptr<const Mapping>(new Mapping(static_cast<const char*>(data), size));
  }

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { munmap(const_cast<char*>(data_), size_); }

  absl::string_view bytes() const { return absl::string_view(data_, size_); }

 private:
  Mapping(const char* data, size_t size) : data_(data), size_(size) {}

  const char* const data_;
  const size_t size_;
};

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  return GuardMemory([&]() -> absl::StatusOr<SafetensorsFile> {
    ASSIGN_OR_RETURN(File file, File::Open(path));
    SafetensorsFile result;
    result.path_ = path;
    const absl::Status status = result.MapAndParse(file);
    if (status.ok()) return result;
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  });
}

absl::Status SafetensorsFile::MapAndParse(const File& file) {
  ASSIGN_OR_RETURN(mapping_, Mapping::Map(file));
  const absl::string_view bytes = mapping_->bytes();
  RETURN_IF_ERROR(CheckNotLfsPointer(bytes));
  if (bytes.size() < kHeaderLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(bytes.size(), " bytes are too short for a safetensors file"));
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kHeaderLengthBytes);
  const uint64_t most = std::min(kMaxHeaderBytes, bytes.size() - kHeaderLengthBytes);
  if (header_bytes > most) {
    return absl::InvalidArgumentError(absl::StrCat("header length ", header_bytes, ", at most ",
                                                   most,
                                                   " is possible: truncated, or not a "
                                                   "safetensors file"));
  }
  const absl::string_view data = bytes.substr(kHeaderLengthBytes + header_bytes);
  ASSIGN_OR_RETURN(
      std::vector<SafetensorsEntry> entries,
      ParseSafetensorsHeader(bytes.substr(kHeaderLengthBytes, header_bytes), data.size()));
  for (SafetensorsEntry& entry : entries) {
    const absl::string_view span = data.substr(entry.begin, entry.end - entry.begin);
    tensors_.emplace(std::move(entry.name),
                     TensorView{entry.type, std::move(entry.shape), {span.data(), span.size()}});
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> SafetensorsFile::Find(absl::string_view name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  return absl::NotFoundError(absl::StrCat(path_, ": no tensor ", name));
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, view] : tensors_) names.push_back(name);
  return names;
}

std::string SafetensorsFile::Sha256() const {
  constexpr size_t kPiece = size_t{4} << 20;
  image_variations::Sha256 sum;
  for (absl::string_view rest = mapping_->bytes(); !rest.empty();) {
    const absl::string_view piece = rest.substr(0, kPiece);
    sum.Update(piece);
    ReleasePages({piece.data(), piece.size()});
    rest.remove_prefix(piece.size());
  }
  return std::move(sum).HexDigest();
}

void SafetensorsFile::Release(const TensorView& view) { ReleasePages(view.bytes); }

}  // namespace image_variations
