#include "pipeline/base/config_reader.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

using nlohmann::json;

constexpr int kMaxConfigDepth = 16;

// Walks a document without building it, and stops at the first thing that strict reading refuses.
class StrictnessCheck final : public nlohmann::json_sax<json> {
 public:
  explicit StrictnessCheck(int max_depth) : max_depth_(max_depth) {}

  const std::string& problem() const { return problem_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Enter(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    problem_ = absl::StrCat("the key \"", name, "\" appears twice in one object");
    return false;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    problem_ = absl::StrCat("not valid JSON at byte ", position);
    return false;
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= static_cast<std::size_t>(max_depth_)) return true;
    problem_ = absl::StrCat("JSON nested deeper than ", max_depth_);
    return false;
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  const int max_depth_;
  std::vector<std::set<std::string>> keys_;  // of each open object or array
  std::string problem_;
};

// Python writes NaN, Infinity and -Infinity, which JSON does not have; outside strings they become
// null.
std::string ReplacePythonNumbers(absl::string_view text) {
  std::string replaced;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const absl::string_view rest = text.substr(i);
    if (!in_string) {
      bool found = false;
      for (const absl::string_view word : {"NaN", "Infinity", "-Infinity"}) {
        if (!absl::StartsWith(rest, word)) continue;
        replaced += "null";
        i += word.size() - 1;
        found = true;
        break;
      }
      if (found) continue;
    }
    if (in_string && text[i] == '\\' && rest.size() > 1) {
      replaced += text[i++];
    } else if (text[i] == '"') {
      in_string = !in_string;
    }
    replaced += text[i];
  }
  return replaced;
}

bool IsIntegerIn(const json& value, ConfigReader::Range range) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) return false;
  const int64_t number = value.get<int64_t>();
  return number >= range.low && number <= range.high;
}

}  // namespace

absl::StatusOr<json> ParseStrictJson(absl::string_view text, int max_depth) {
  StrictnessCheck check(max_depth);
  if (!json::sax_parse(text.begin(), text.end(), &check)) {
    return absl::InvalidArgumentError(check.problem());
  }
  return json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

ConfigReader::ConfigReader(absl::string_view json_text) {
  absl::StatusOr<json> document = ParseStrictJson(ReplacePythonNumbers(json_text), kMaxConfigDepth);
  if (!document.ok()) {
    Fail(document.status().message());
  } else if (!document->is_object()) {
    Fail("not a JSON object");
  } else {
    object_ = std::make_shared<const json>(*std::move(document));
    return;
  }
  object_ = std::make_shared<const json>(json::object());
}

ConfigReader::ConfigReader(std::shared_ptr<const json> object, std::string prefix)
    : object_(std::move(object)), prefix_(std::move(prefix)) {}

bool ConfigReader::Has(absl::string_view key) const { return Value(key) != nullptr; }

bool ConfigReader::IsObject(absl::string_view key) const {
  return Has(key) && Value(key)->is_object();
}

bool ConfigReader::IsList(absl::string_view key) const {
  return Has(key) && Value(key)->is_array();
}

std::vector<std::string> ConfigReader::keys() const {
  std::vector<std::string> keys;
  for (const auto& item : object_->items()) keys.push_back(item.key());
  return keys;
}

int ConfigReader::Int(absl::string_view key, int absent, Range range) {
  const json* value = Value(key);
  if (value == nullptr) return absent;
  if (IsIntegerIn(*value, range)) return value->get<int>();
  FailType(key, absl::StrCat("an integer from ", range.low, " to ", range.high));
  return absent;
}

double ConfigReader::Number(absl::string_view key, double absent) {
  const json* value = Value(key);
  if (value == nullptr) return absent;
  if (value->is_number()) return value->get<double>();
  FailType(key, "a number");
  return absent;
}

double ConfigReader::Positive(absl::string_view key, double absent) {
  const double number = Number(key, absent);
  if (number > 0) return number;
  FailType(key, "a number above 0");
  return absent;
}

bool ConfigReader::Bool(absl::string_view key, bool absent) {
  const json* value = Value(key);
  if (value == nullptr) return absent;
  if (value->is_boolean()) return value->get<bool>();
  FailType(key, "true or false");
  return absent;
}

std::string ConfigReader::String(absl::string_view key, absl::string_view absent) {
  const json* value = Value(key);
  if (value == nullptr) return std::string(absent);
  if (value->is_string()) return value->get<std::string>();
  FailType(key, "a string");
  return std::string(absent);
}

std::vector<int> ConfigReader::Ints(absl::string_view key, std::vector<int> absent, Range range) {
  const json* value = Value(key);
  if (value == nullptr) return absent;
  std::vector<int> numbers;
  if (value->is_array()) {
    for (const json& element : *value) {
      if (IsIntegerIn(element, range)) numbers.push_back(element.get<int>());
    }
  }
  if (!numbers.empty() && numbers.size() == value->size()) return numbers;
  FailType(key, absl::StrCat("a list of integers from ", range.low, " to ", range.high));
  return absent;
}

std::vector<double> ConfigReader::Numbers(absl::string_view key, std::vector<double> absent) {
  const json* value = Value(key);
  if (value == nullptr) return absent;
  std::vector<double> numbers;
  if (value->is_array()) {
    for (const json& element : *value) {
      if (element.is_number()) numbers.push_back(element.get<double>());
    }
  }
  if (!numbers.empty() && numbers.size() == value->size()) return numbers;
  FailType(key, "a list of numbers");
  return absent;
}

std::vector<std::string> ConfigReader::Strings(absl::string_view key,
                                               std::vector<std::string> absent) {
  const json* value = Value(key);
  if (value == nullptr) return absent;
  std::vector<std::string> strings;
  if (value->is_array()) {
    for (const json& element : *value) {
      if (element.is_string()) strings.push_back(element.get<std::string>());
    }
  }
  if (!strings.empty() && strings.size() == value->size()) return strings;
  FailType(key, "a list of strings");
  return absent;
}

int ConfigReader::UniformInt(absl::string_view key, int absent, Range range) {
  const json* value = Value(key);
  if (value == nullptr || !value->is_array()) return Int(key, absent, range);
  const std::vector<int> numbers = Ints(key, {absent}, range);
  for (const int number : numbers) {
    if (number == numbers.front()) continue;
    FailType(key, "a list of equal integers (others are not implemented)");
    return absent;
  }
  return numbers.front();
}

ConfigReader ConfigReader::Object(absl::string_view key) {
  const std::string prefix = absl::StrCat(prefix_, key, ".");
  if (IsObject(key)) return ConfigReader({object_, Value(key)}, prefix);
  FailType(key, "an object");
  return ConfigReader(std::make_shared<const json>(json::object()), prefix);
}

void ConfigReader::Only(absl::string_view key, absl::string_view implemented) {
  const json* value = Value(key);
  if (value == nullptr) return;
  if (value->is_string() && value->get_ref<const std::string&>() == implemented) return;
  FailUnimplemented(key, absl::StrCat("\"", implemented, "\""));
}

void ConfigReader::Only(absl::string_view key, bool implemented) {
  const json* value = Value(key);
  if (value == nullptr || *value == json(implemented)) return;
  FailUnimplemented(key, implemented ? "true" : "false");
}

void ConfigReader::Only(absl::string_view key, double implemented) {
  const json* value = Value(key);
  if (value == nullptr) return;
  if (value->is_number() && value->get<double>() == implemented) return;
  FailUnimplemented(key, absl::StrCat(implemented));
}

void ConfigReader::OnlyNull(std::initializer_list<absl::string_view> keys) {
  for (const absl::string_view key : keys) {
    if (Has(key)) FailUnimplemented(key, "null");
  }
}

void ConfigReader::OnlyEmpty(absl::string_view key) {
  const json* value = Value(key);
  if (value != nullptr && *value != json::array()) FailUnimplemented(key, "[]");
}

void ConfigReader::Require(absl::string_view key) {
  if (!Has(key)) Fail(absl::StrCat(key, " is missing"));
}

void ConfigReader::Fail(absl::string_view problem) {
  problems_.push_back(absl::StrCat(prefix_, problem));
}

void ConfigReader::Merge(const ConfigReader& object) {
  problems_.insert(problems_.end(), object.problems_.begin(), object.problems_.end());
}

absl::Status ConfigReader::status() const {
  if (problems_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems_, "; "));
}

const json* ConfigReader::Value(absl::string_view key) const {
  const auto found = object_->find(std::string(key));
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::FailType(absl::string_view key, absl::string_view expected) {
  const json* value = Value(key);
  Fail(absl::StrCat(key, " must be ", expected, ", is ",
                    value == nullptr ? "absent" : value->dump().substr(0, 100)));
}

void ConfigReader::FailUnimplemented(absl::string_view key, const std::string& implemented) {
  Fail(absl::StrCat(key, " = ", Value(key)->dump().substr(0, 100), " is not implemented, only ",
                    implemented, " is"));
}

}  // namespace image_variations
