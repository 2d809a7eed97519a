#include "pipeline/base/config_reader.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr int kMaxConfigDepth = 16;

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

// nullptr unless it is an integer in the range.
const int64_t* IntegerIn(const JsonValue& value, ConfigReader::Range range) {
  const int64_t* number = value.AsInteger();
  return number != nullptr && *number >= range.low && *number <= range.high ? number : nullptr;
}

// Of an array; none of any other value.
const JsonValue::Array& ElementsOf(const JsonValue& value) {
  static const auto& none = *new JsonValue::Array;
  const JsonValue::Array* elements = value.AsArray();
  return elements == nullptr ? none : *elements;
}

JsonValue EmptyObject() { return JsonValue(JsonValue::Object()); }

}  // namespace

ConfigReader::ConfigReader(absl::string_view json_text) {
  absl::StatusOr<JsonValue> document =
      ParseStrictJson(ReplacePythonNumbers(json_text), kMaxConfigDepth);
  if (!document.ok()) {
    Fail(document.status().message());
  } else if (!document->AsObject()) {
    Fail("not a JSON object");
  } else {
    object_ = std::make_shared<const JsonValue>(*std::move(document));
    return;
  }
  object_ = std::make_shared<const JsonValue>(EmptyObject());
}

ConfigReader::ConfigReader(std::shared_ptr<const JsonValue> object, std::string prefix)
    : object_(std::move(object)), prefix_(std::move(prefix)) {}

bool ConfigReader::Has(absl::string_view key) const { return Value(key) != nullptr; }

bool ConfigReader::IsObject(absl::string_view key) const {
  return Has(key) && Value(key)->AsObject() != nullptr;
}

bool ConfigReader::IsList(absl::string_view key) const {
  return Has(key) && Value(key)->AsArray() != nullptr;
}

std::vector<std::string> ConfigReader::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : *object_->AsObject()) keys.push_back(key);
  return keys;
}

int ConfigReader::Int(absl::string_view key, int absent, Range range) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return absent;
  if (const int64_t* number = IntegerIn(*value, range)) return static_cast<int>(*number);
  FailType(key, absl::StrCat("an integer from ", range.low, " to ", range.high));
  return absent;
}

double ConfigReader::Number(absl::string_view key, double absent) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return absent;
  if (const std::optional<double> number = value->AsNumber()) return *number;
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
  const JsonValue* value = Value(key);
  if (value == nullptr) return absent;
  if (const bool* truth = value->AsBool()) return *truth;
  FailType(key, "true or false");
  return absent;
}

std::string ConfigReader::String(absl::string_view key, absl::string_view absent) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return std::string(absent);
  if (const std::string* text = value->AsString()) return *text;
  FailType(key, "a string");
  return std::string(absent);
}

std::vector<int> ConfigReader::Ints(absl::string_view key, std::vector<int> absent, Range range) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return absent;
  std::vector<int> numbers;
  const JsonValue::Array& elements = ElementsOf(*value);
  for (const JsonValue& element : elements) {
    if (const int64_t* number = IntegerIn(element, range)) {
      numbers.push_back(static_cast<int>(*number));
    }
  }
  if (!numbers.empty() && numbers.size() == elements.size()) return numbers;
  FailType(key, absl::StrCat("a list of integers from ", range.low, " to ", range.high));
  return absent;
}

std::vector<double> ConfigReader::Numbers(absl::string_view key, std::vector<double> absent) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return absent;
  std::vector<double> numbers;
  const JsonValue::Array& elements = ElementsOf(*value);
  for (const JsonValue& element : elements) {
    if (const std::optional<double> number = element.AsNumber()) numbers.push_back(*number);
  }
  if (!numbers.empty() && numbers.size() == elements.size()) return numbers;
  FailType(key, "a list of numbers");
  return absent;
}

std::vector<std::string> ConfigReader::Strings(absl::string_view key,
                                               std::vector<std::string> absent) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return absent;
  std::vector<std::string> strings;
  const JsonValue::Array& elements = ElementsOf(*value);
  for (const JsonValue& element : elements) {
    if (const std::string* text = element.AsString()) strings.push_back(*text);
  }
  if (!strings.empty() && strings.size() == elements.size()) return strings;
  FailType(key, "a list of strings");
  return absent;
}

int ConfigReader::UniformInt(absl::string_view key, int absent, Range range) {
  if (!IsList(key)) return Int(key, absent, range);
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
  return ConfigReader(std::make_shared<const JsonValue>(EmptyObject()), prefix);
}

void ConfigReader::Only(absl::string_view key, absl::string_view implemented) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return;
  if (const std::string* text = value->AsString(); text != nullptr && *text == implemented) return;
  FailUnimplemented(key, absl::StrCat("\"", implemented, "\""));
}

void ConfigReader::Only(absl::string_view key, bool implemented) {
  const JsonValue* value = Value(key);
  if (value == nullptr || *value == JsonValue(implemented)) return;
  FailUnimplemented(key, implemented ? "true" : "false");
}

void ConfigReader::Only(absl::string_view key, double implemented) {
  const JsonValue* value = Value(key);
  if (value == nullptr) return;
  if (value->AsNumber() == implemented) return;
  FailUnimplemented(key, absl::StrCat(implemented));
}

void ConfigReader::OnlyNull(std::initializer_list<absl::string_view> keys) {
  for (const absl::string_view key : keys) {
    if (Has(key)) FailUnimplemented(key, "null");
  }
}

void ConfigReader::OnlyEmpty(absl::string_view key) {
  const JsonValue* value = Value(key);
  if (value != nullptr && *value != JsonValue(JsonValue::Array())) FailUnimplemented(key, "[]");
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

const JsonValue* ConfigReader::Value(absl::string_view key) const {
  const JsonValue* value = object_->Find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void ConfigReader::FailType(absl::string_view key, absl::string_view expected) {
  const JsonValue* value = Value(key);
  Fail(absl::StrCat(key, " must be ", expected, ", is ",
                    value == nullptr ? "absent" : value->Text().substr(0, 100)));
}

void ConfigReader::FailUnimplemented(absl::string_view key, const std::string& implemented) {
  Fail(absl::StrCat(key, " = ", Value(key)->Text().substr(0, 100), " is not implemented, only ",
                    implemented, " is"));
}

}  // namespace image_variations
