// A JSON document as a value. nlohmann's allocates where it must not throw, in its destructor among
// others, so that want of memory would end the process; here it is std::bad_alloc.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace image_variations {

// As deep as it was allowed to be when it was parsed. Thread-compatible.
class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Object = std::map<std::string, JsonValue, std::less<>>;

  JsonValue() = default;  // null
  template <typename T>
  explicit JsonValue(T value) : value_(std::move(value)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  // nullptr when it is of another type.
  const bool* AsBool() const { return std::get_if<bool>(&value_); }
  const int64_t* AsInteger() const { return std::get_if<int64_t>(&value_); }
  const std::string* AsString() const { return std::get_if<std::string>(&value_); }
  const Array* AsArray() const { return std::get_if<Array>(&value_); }
  const Object* AsObject() const { return std::get_if<Object>(&value_); }
  Array* AsArray() { return std::get_if<Array>(&value_); }
  Object* AsObject() { return std::get_if<Object>(&value_); }
  // Of any number, also of an integer beyond 64 bits with sign.
  std::optional<double> AsNumber() const;

  // nullptr when it is no object, or has no such key.
  const JsonValue* Find(absl::string_view key) const;

  std::string Text() const;  // compact JSON, for messages

  bool operator==(const JsonValue&) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

// Parses one JSON document. INVALID_ARGUMENT: malformed, a key twice in one object (the second
// would silently win), nested deeper than max_depth.
absl::StatusOr<JsonValue> ParseStrictJson(absl::string_view text, int max_depth);

// A JSON string with its quotes. Bytes that are not printable ASCII become \u00XX, so that no input
// breaks a line.
std::string QuotedJson(absl::string_view text);

}  // namespace image_variations
