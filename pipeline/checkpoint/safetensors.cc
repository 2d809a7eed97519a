#include "pipeline/checkpoint/safetensors.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "pipeline/base/config_reader.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/file.h"

namespace image_variations {
namespace {

static_assert(std::endian::native == std::endian::little);

using nlohmann::json;

constexpr uint64_t kHeaderLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation
constexpr int kMaxHeaderDepth = 4;

struct TypeName {
  absl::string_view name;
  TensorType type;
};
constexpr TypeName kTypeNames[] = {
    {"F32", TensorType::kFloat32},
    {"F16", TensorType::kFloat16},
    {"BF16", TensorType::kBfloat16},
    {"I64", TensorType::kInt64},
};

// One entry of the header; offsets are relative to the end of the header.
struct Entry {
  std::string name;
  TensorType type;
  std::vector<int64_t> shape;
  uint64_t begin;
  uint64_t end;
};

bool IsListOfUnsigned(const json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), [](const json& element) {
           return element.is_number_unsigned() && element.get<uint64_t>() <= uint64_t{INT64_MAX};
         });
}

std::optional<TensorType> FindType(absl::string_view name) {
  for (const TypeName& known : kTypeNames) {
    if (known.name == name) return known.type;
  }
  return std::nullopt;
}

// Size of the data by type and shape; nothing when it does not fit 64 bits.
std::optional<uint64_t> DataBytes(TensorType type, const std::vector<int64_t>& shape) {
  uint64_t bytes = static_cast<uint64_t>(BytesPerElement(type));
  for (const int64_t side : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(side), &bytes)) return std::nullopt;
  }
  return bytes;
}

absl::StatusOr<Entry> ParseEntry(const std::string& name, const json& value) {
  const auto fail = [&name](const auto&... why) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, ": ", why...));
  };
  if (!value.is_object()) return fail("its header entry is not an object");
  const auto dtype = value.find("dtype");
  const auto shape = value.find("shape");
  const auto offsets = value.find("data_offsets");
  if (dtype == value.end() || !dtype->is_string()) return fail("dtype is not a string");
  if (shape == value.end() || !IsListOfUnsigned(*shape)) {
    return fail("shape is not a list of non-negative integers");
  }
  if (offsets == value.end() || !IsListOfUnsigned(*offsets) || offsets->size() != 2) {
    return fail("data_offsets is not a pair of non-negative integers");
  }
  const std::optional<TensorType> type = FindType(dtype->get_ref<const std::string&>());
  if (!type) {
    return fail("dtype ", dtype->get_ref<const std::string&>(),
                " is not implemented, only F32, F16, BF16 and I64 are");
  }
  Entry entry{name, *type, shape->get<std::vector<int64_t>>(), (*offsets)[0].get<uint64_t>(),
              (*offsets)[1].get<uint64_t>()};
  const std::optional<uint64_t> bytes = DataBytes(*type, entry.shape);
  if (!bytes) return fail("shape ", shape->dump(), " has too many elements");
  if (entry.end < entry.begin || entry.end - entry.begin != *bytes) {
    return fail("shape ", shape->dump(), " takes ", *bytes, " bytes, data_offsets are ",
                offsets->dump());
  }
  return entry;
}

absl::StatusOr<std::vector<Entry>> ParseHeader(absl::string_view text) {
  if (text.empty() || text[0] != '{') {
    return absl::InvalidArgumentError("its header does not begin with {: not a safetensors file");
  }
  ASSIGN_OR_RETURN(const json header, ParseStrictJson(text, kMaxHeaderDepth));
  std::vector<Entry> entries;
  for (const auto& item : header.items()) {
    if (item.key() == "__metadata__") continue;
    ASSIGN_OR_RETURN(Entry entry, ParseEntry(item.key(), item.value()));
    entries.push_back(std::move(entry));
  }
  return entries;
}

// The data must be covered exactly once, without gaps: nothing can hide in the file, no two tensors
// can share bytes.
absl::Status CheckLayout(std::vector<Entry>& entries, uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != covered) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", entry.name, ": data begins at ", entry.begin,
                       ", that of the tensor before it ends at ", covered));
    }
    covered = entry.end;
  }
  if (covered == data_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      covered > data_bytes ? "truncated: " : "trailing bytes: ", "the header describes ", covered,
      " bytes of data, the file has ", data_bytes));
}

}  // namespace

int64_t BytesPerElement(TensorType type) {
  switch (type) {
    case TensorType::kFloat32:
      return 4;
    case TensorType::kFloat16:
    case TensorType::kBfloat16:
      return 2;
    case TensorType::kInt64:
      return 8;
  }
  IV_CHECK(false);
}

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
  ASSIGN_OR_RETURN(File file, File::Open(path));
  SafetensorsFile result;
  result.path_ = path;
  const absl::Status status = result.MapAndParse(file);
  if (status.ok()) return result;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
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
  ASSIGN_OR_RETURN(std::vector<Entry> entries,
                   ParseHeader(bytes.substr(kHeaderLengthBytes, header_bytes)));
  const absl::string_view data = bytes.substr(kHeaderLengthBytes + header_bytes);
  RETURN_IF_ERROR(CheckLayout(entries, data.size()));
  for (Entry& entry : entries) {
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

void SafetensorsFile::Release(const TensorView& view) {
  if (view.bytes.empty()) return;
  // Whole pages, also those shared with a neighbour: they are clean, and come back when read.
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t into_page = reinterpret_cast<uintptr_t>(view.bytes.data()) % page;
  madvise(const_cast<char*>(view.bytes.data() - into_page), view.bytes.size() + into_page,
          MADV_DONTNEED);
}

}  // namespace image_variations
