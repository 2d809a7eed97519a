// Kinds of values that a flag can have: how each is shown, read and checked.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

namespace image_variations {

// Where a flag's text goes.
struct ConfigValue {
  std::string type;           // for --help
  std::string default_shown;  // "": none
  // Takes the text over; returns what is wrong with it, or "". (CLI11's shape of a check.)
  std::function<std::string(const std::string&)> set;
  bool repeats = false;  // `set` may be called again, to add
};

// `target` has the default, and outlives the value.
ConfigValue Text(std::string* target, std::string type);
// Words with commas between them.
ConfigValue List(std::vector<std::string>* target, std::string type);
// cpu, cuda:N or auto; several with commas between them, or given again.
ConfigValue Devices(std::vector<std::string>* target);
ConfigValue Number(int* target, int min, int max);
ConfigValue Number(int64_t* target, int64_t min, int64_t max);
ConfigValue Number(float* target, float min, float max);
// A count of bytes, with or without KiB, MiB, GiB.
ConfigValue Bytes(int* target, int min);
ConfigValue Bytes(int64_t* target, int64_t min);
ConfigValue Time(absl::Duration* target);

// One of a few words, each standing for a value.
template <typename T>
ConfigValue Choice(T* target, std::vector<std::pair<std::string, T>> choices) {
  const auto word = [](std::string* out, const auto& choice) {
    absl::StrAppend(out, choice.first);
  };
  const std::string words = absl::StrJoin(choices, "|", word);
  std::string shown;
  for (const auto& [name, value] : choices) {
    if (value == *target) shown = name;
  }
  return {words, shown, [=](const std::string& text) -> std::string {
            for (const auto& [name, value] : choices) {
              if (name != text) continue;
              *target = value;
              return "";
            }
            return absl::StrCat("must be ", words, ", not \"", text, "\"");
          }};
}

}  // namespace image_variations
