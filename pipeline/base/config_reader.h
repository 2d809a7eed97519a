// Reads the JSON files of a checkpoint strictly: a missing, misshapen or unimplemented value
// becomes a sentence that names its key, and all sentences come out in one status.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "pipeline/base/json_value.h"

namespace image_variations {

// One JSON object, read key by key. A getter returns `absent` when the key is absent or null, and
// when its value is wrong, which status() then tells. The bare words NaN and Infinity, which
// Python's json module writes, read as null. Values; thread-compatible.
class ConfigReader {
 public:
  struct Range {
    int64_t low;
    int64_t high;
  };

  explicit ConfigReader(absl::string_view json_text);

  bool Has(absl::string_view key) const;  // present and not null
  bool IsObject(absl::string_view key) const;
  bool IsList(absl::string_view key) const;
  std::vector<std::string> keys() const;

  int Int(absl::string_view key, int absent, Range range);
  double Number(absl::string_view key, double absent);
  double Positive(absl::string_view key, double absent);  // finite and above 0
  bool Bool(absl::string_view key, bool absent);
  std::string String(absl::string_view key, absl::string_view absent);
  std::vector<int> Ints(absl::string_view key, std::vector<int> absent, Range range);
  std::vector<double> Numbers(absl::string_view key, std::vector<double> absent);
  std::vector<std::string> Strings(absl::string_view key, std::vector<std::string> absent);
  // An integer, or a list of which all elements are the same integer.
  int UniformInt(absl::string_view key, int absent, Range range);
  // An empty object, with a problem noted here, unless the value is an object. Its problems are its
  // own: pass them on with Merge.
  ConfigReader Object(absl::string_view key);

  // Notes that the value is not implemented unless the key is absent, null or has this value.
  void Only(absl::string_view key, absl::string_view implemented);
  void Only(absl::string_view key, const char* implemented) {
    Only(key, absl::string_view(implemented));
  }
  void Only(absl::string_view key, bool implemented);
  void Only(absl::string_view key, double implemented);
  void OnlyNull(std::initializer_list<absl::string_view> keys);
  void OnlyEmpty(absl::string_view key);  // a list

  void Require(absl::string_view key);  // notes a problem when the key is absent or null
  void Fail(absl::string_view problem);
  void Merge(const ConfigReader& object);

  absl::Status status() const;  // INVALID_ARGUMENT with every problem, or OK

 private:
  ConfigReader(std::shared_ptr<const JsonValue> object, std::string prefix);

  const JsonValue* Value(absl::string_view key) const;  // nullptr: absent or null
  void FailType(absl::string_view key, absl::string_view expected);
  void FailUnimplemented(absl::string_view key, const std::string& implemented);

  std::shared_ptr<const JsonValue> object_;
  std::string prefix_;  // "vision_config." in nested objects
  std::vector<std::string> problems_;
};

}  // namespace image_variations
