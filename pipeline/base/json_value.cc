#include "pipeline/base/json_value.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace image_variations {
namespace {

using nlohmann::json;

// Builds the document while it passes by, and stops at the first thing that strict reading refuses.
class StrictReader final : public nlohmann::json_sax<json> {
 public:
  explicit StrictReader(int max_depth) : max_depth_(static_cast<std::size_t>(max_depth)) {}

  JsonValue document;
  std::string problem;

  bool null() override { return Add(JsonValue()); }
  bool boolean(bool truth) override { return Add(JsonValue(truth)); }
  bool number_integer(number_integer_t number) override { return Add(JsonValue(number)); }
  bool number_unsigned(number_unsigned_t number) override {
    if (number > uint64_t{INT64_MAX}) return Add(JsonValue(static_cast<double>(number)));
    return Add(JsonValue(static_cast<int64_t>(number)));
  }
  bool number_float(number_float_t number, const string_t&) override {
    return Add(JsonValue(number));
  }
  bool string(string_t& text) override { return Add(JsonValue(std::move(text))); }
  bool binary(binary_t&) override { return false; }  // JSON has none
  bool start_object(std::size_t) override { return Enter(JsonValue(JsonValue::Object())); }
  bool start_array(std::size_t) override { return Enter(JsonValue(JsonValue::Array())); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    if (open_.back().value.Find(name) != nullptr) {
      problem = absl::StrCat("the key \"", name, "\" appears twice in one object");
      return false;
    }
    open_.back().key = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    problem = absl::StrCat("not valid JSON at byte ", position);
    return false;
  }

 private:
  struct Level {
    JsonValue value;  // an array or an object
    std::string key;  // of an object: where the next value goes
  };

  bool Enter(JsonValue value) {
    open_.push_back({std::move(value), ""});
    if (open_.size() <= max_depth_) return true;
    problem = absl::StrCat("JSON nested deeper than ", max_depth_);
    return false;
  }

  bool Leave() {
    JsonValue value = std::move(open_.back().value);
    open_.pop_back();
    return Add(std::move(value));
  }

  bool Add(JsonValue value) {
    if (open_.empty()) {
      document = std::move(value);
    } else if (JsonValue::Array* array = open_.back().value.AsArray()) {
      array->push_back(std::move(value));
    } else {
      open_.back().value.AsObject()->emplace(std::move(open_.back().key), std::move(value));
    }
    return true;
  }

  const std::size_t max_depth_;
  std::vector<Level> open_;
};

// The shortest digits that read as the same number, with a point or an exponent.
std::string NumberText(double number) {
  char digits[32];
  const std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, number);
  const absl::string_view text(digits, static_cast<std::size_t>(end.ptr - digits));
  return absl::StrCat(text, text.find_first_of(".e") == absl::string_view::npos ? ".0" : "");
}

}  // namespace

std::optional<double> JsonValue::AsNumber() const {
  if (const int64_t* integer = AsInteger()) return static_cast<double>(*integer);
  if (const double* number = std::get_if<double>(&value_)) return *number;
  return std::nullopt;
}

const JsonValue* JsonValue::Find(absl::string_view key) const {
  const Object* object = AsObject();
  if (object == nullptr) return nullptr;
  const auto found = object->find(key);
  return found == object->end() ? nullptr : &found->second;
}

std::string JsonValue::Text() const {
  if (const bool* truth = AsBool()) return *truth ? "true" : "false";
  if (const int64_t* integer = AsInteger()) return absl::StrCat(*integer);
  if (const std::optional<double> number = AsNumber()) return NumberText(*number);
  if (const std::string* text = AsString()) return QuotedJson(*text);
  if (const Array* array = AsArray()) {
    const auto append = [](std::string* out, const JsonValue& one) { *out += one.Text(); };
    return absl::StrCat("[", absl::StrJoin(*array, ",", append), "]");
  }
  if (const Object* object = AsObject()) {
    const auto append = [](std::string* out, const Object::value_type& one) {
      absl::StrAppend(out, QuotedJson(one.first), ":", one.second.Text());
    };
    return absl::StrCat("{", absl::StrJoin(*object, ",", append), "}");
  }
  return "null";
}

absl::StatusOr<JsonValue> ParseStrictJson(absl::string_view text, int max_depth) {
  StrictReader reader(max_depth);
  if (json::sax_parse(text.begin(), text.end(), &reader)) return std::move(reader.document);
  return absl::InvalidArgumentError(reader.problem);
}

std::string QuotedJson(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", absl::string_view(&c, 1));
    } else if (byte < 0x20 || byte >= 0x7f) {
      absl::StrAppendFormat(&out, "\\u%04x", byte);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
  return out;
}

}  // namespace image_variations
