#include "pipeline/checkpoint/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

using nlohmann::json;

constexpr size_t kMaxRank = 8;
constexpr size_t kMaxDepth = 8;
constexpr size_t kMaxKeyBytes = 1000;

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

// Fills entries while the document passes by, and stops at the first thing that is wrong.
class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  std::vector<SafetensorsEntry> entries;
  std::string problem;

  bool null() override { return OtherValue(); }
  bool boolean(bool) override { return OtherValue(); }
  bool number_integer(number_integer_t) override { return OtherValue(); }
  bool number_float(number_float_t, const string_t&) override { return OtherValue(); }
  bool binary(binary_t&) override { return OtherValue(); }

  bool number_unsigned(number_unsigned_t number) override {
    if (place() != Place::kShape && place() != Place::kOffsets) return OtherValue();
    if (number > uint64_t{INT64_MAX}) return OtherValue();
    numbers_.push_back(static_cast<int64_t>(number));
    if (place() == Place::kOffsets) return numbers_.size() <= 2 || OtherValue();
    return numbers_.size() <= kMaxRank ||
           Fail(absl::StrCat("shape has more than ", kMaxRank, " dimensions"));
  }

  bool string(string_t& text) override {
    if (place() == Place::kMetadata) return true;
    if (place() != Place::kTensor || key_ != "dtype") return OtherValue();
    type_ = FindType(text);
    return type_ || Fail(absl::StrCat("dtype ", text.substr(0, 20),
                                      " is not implemented, only F32, F16, BF16 and I64 are"));
  }

  bool start_object(std::size_t) override {
    if (open_.empty()) return Open(Place::kHeader);
    if (place() == Place::kHeader && key_ == "__metadata__") return Open(Place::kMetadata);
    if (place() == Place::kHeader) {
      type_.reset();
      shape_.reset();
      offsets_.reset();
      return Open(Place::kTensor);
    }
    return IsOfOtherFields() ? Open(Place::kOther) : OtherValue();
  }

  bool start_array(std::size_t) override {
    if (place() == Place::kTensor && (key_ == "shape" || key_ == "data_offsets")) {
      numbers_.clear();
      return Open(key_ == "shape" ? Place::kShape : Place::kOffsets);
    }
    return IsOfOtherFields() ? Open(Place::kOther) : OtherValue();
  }

  bool end_object() override {
    const Place ended = Close();
    return ended != Place::kTensor || AddEntry();
  }

  bool end_array() override {
    const Place ended = Close();
    if (ended == Place::kShape) shape_ = numbers_;
    if (ended == Place::kOffsets) offsets_ = numbers_;
    return true;
  }

  bool key(string_t& name) override {
    if (name.size() > kMaxKeyBytes) {
      problem = absl::StrCat("a key of ", name.size(), " bytes, limit ", kMaxKeyBytes);
      return false;
    }
    if (!open_.back().keys.insert(name).second) {
      problem = absl::StrCat("the key \"", name, "\" appears twice in one object");
      return false;
    }
    if (place() == Place::kHeader) tensor_ = name;
    key_ = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    problem = absl::StrCat("its header is not valid JSON at byte ", position);
    return false;
  }

 private:
  enum class Place { kNowhere, kHeader, kMetadata, kTensor, kShape, kOffsets, kOther };
  struct Level {
    Place place;
    std::set<std::string> keys;
  };

  Place place() const { return open_.empty() ? Place::kNowhere : open_.back().place; }

  // A tensor's fields beside the three known ones may hold anything.
  bool IsOfOtherFields() const {
    return place() == Place::kOther || (place() == Place::kTensor && key_ != "dtype" &&
                                        key_ != "shape" && key_ != "data_offsets");
  }

  bool Open(Place place) {
    open_.push_back({place, {}});
    if (open_.size() <= kMaxDepth) return true;
    problem = absl::StrCat("its header is nested deeper than ", kMaxDepth);
    return false;
  }

  Place Close() {
    const Place ended = place();
    open_.pop_back();
    return ended;
  }

  bool Fail(absl::string_view why) {
    problem = absl::StrCat("tensor ", tensor_, ": ", why);
    return false;
  }

  // A value where something else is needed, unless nothing is.
  bool OtherValue() {
    if (IsOfOtherFields()) return true;
    switch (place()) {
      case Place::kMetadata:
        problem = absl::StrCat("__metadata__: the value of \"", key_, "\" is not a string");
        return false;
      case Place::kHeader:
        return Fail("its header entry is not an object");
      case Place::kTensor:
      case Place::kShape:
      case Place::kOffsets:
        return Fail(key_ == "dtype"   ? "dtype is not a string"
                    : key_ == "shape" ? "shape is not a list of non-negative integers"
                                      : "data_offsets is not a pair of non-negative integers");
      case Place::kNowhere:
      case Place::kOther:
        break;
    }
    problem = "its header is not a JSON object";
    return false;
  }

  bool AddEntry() {
    if (!type_) return Fail("dtype is missing");
    if (!shape_) return Fail("shape is missing");
    if (!offsets_ || offsets_->size() != 2) {
      return Fail("data_offsets is not a pair of non-negative integers");
    }
    const std::string shape = absl::StrCat("shape [", absl::StrJoin(*shape_, ","), "]");
    const std::optional<uint64_t> bytes = DataBytes(*type_, *shape_);
    if (!bytes) return Fail(absl::StrCat(shape, " has too many elements"));
    const auto begin = static_cast<uint64_t>((*offsets_)[0]);
    const auto end = static_cast<uint64_t>((*offsets_)[1]);
    if (end < begin || end - begin != *bytes) {
      return Fail(absl::StrCat(shape, " takes ", *bytes, " bytes, data_offsets are [", begin, ",",
                               end, "]"));
    }
    entries.push_back({tensor_, *type_, *std::move(shape_), begin, end});
    return true;
  }

  std::vector<Level> open_;
  std::string tensor_;  // the last key of the header
  std::string key_;     // the last key of any object
  std::vector<int64_t> numbers_;
  std::optional<TensorType> type_;
  std::optional<std::vector<int64_t>> shape_, offsets_;
};

// The data must be covered exactly once, without gaps: nothing can hide in the file, no two tensors
// can share bytes.
absl::Status CheckLayout(std::vector<SafetensorsEntry>& entries, uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });
  uint64_t covered = 0;
  for (const SafetensorsEntry& entry : entries) {
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

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(absl::string_view header,
                                                                     uint64_t data_bytes) {
  if (header.empty() || header[0] != '{') {
    return absl::InvalidArgumentError("its header does not begin with {: not a safetensors file");
  }
  if (header[header.find_last_not_of(' ')] != '}') {
    return absl::InvalidArgumentError(
        "its header does not end with } and spaces: damaged, or not a safetensors file");
  }
  HeaderReader reader;
  if (!json::sax_parse(header.begin(), header.end(), &reader)) {
    return absl::InvalidArgumentError(reader.problem);
  }
  RETURN_IF_ERROR(CheckLayout(reader.entries, data_bytes));
  return std::move(reader.entries);
}

}  // namespace image_variations
