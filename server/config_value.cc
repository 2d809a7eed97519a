#include "server/config_value.h"

#include <limits>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace image_variations {
namespace {

bool Parse(absl::string_view text, int* number) { return absl::SimpleAtoi(text, number); }
bool Parse(absl::string_view text, int64_t* number) { return absl::SimpleAtoi(text, number); }
bool Parse(absl::string_view text, float* number) { return absl::SimpleAtof(text, number); }

template <typename T>
ConfigValue AnyNumber(T* target, T min, T max) {
  return {"NUMBER", absl::StrCat(*target), [=](const std::string& text) -> std::string {
            T number{};
            if (!Parse(text, &number) || !(number >= min && number <= max)) {
              return absl::StrCat("must be a number from ", min, " to ", max, ", not \"", text,
                                  "\"");
            }
            *target = number;
            return "";
          }};
}

constexpr std::pair<absl::string_view, int64_t> kByteUnits[] = {
    {"GiB", int64_t{1} << 30}, {"MiB", int64_t{1} << 20}, {"KiB", int64_t{1} << 10}, {"", 1}};

std::string ShowBytes(int64_t bytes) {
  for (const auto& [unit, size] : kByteUnits) {
    if (bytes % size == 0) return absl::StrCat(bytes / size, unit);
  }
  return "";
}

template <typename T>
ConfigValue AnyBytes(T* target, T min) {
  return {"BYTES", ShowBytes(*target), [=](const std::string& text) -> std::string {
            for (const auto& [unit, size] : kByteUnits) {
              absl::string_view digits = text;
              int64_t count = 0;
              if (!absl::ConsumeSuffix(&digits, unit)) continue;
              if (!absl::SimpleAtoi(digits, &count)) continue;
              if (count < 0 || count > std::numeric_limits<T>::max() / size) break;
              if (count * size < min) break;
              *target = static_cast<T>(count * size);
              return "";
            }
            return absl::StrCat("must be a number of bytes of at least ", ShowBytes(min),
                                ", such as 10MiB, not \"", text, "\"");
          }};
}

}  // namespace

ConfigValue Text(std::string* target, std::string type) {
  return {std::move(type), *target, [target](const std::string& text) {
            *target = text;
            return std::string();
          }};
}

ConfigValue List(std::vector<std::string>* target, std::string type) {
  return {std::move(type), absl::StrJoin(*target, ","), [target](const std::string& text) {
            *target = absl::StrSplit(text, ',', absl::SkipEmpty());
            return std::string();
          }};
}

ConfigValue Devices(std::vector<std::string>* target) {
  const auto given = std::make_shared<std::vector<std::string>>();
  const auto add = [=](const std::string& text) -> std::string {
    for (const absl::string_view device : absl::StrSplit(text, ',')) {
      int index = 0;
      absl::string_view number = device;
      const bool is_cuda =
          absl::ConsumePrefix(&number, "cuda:") && absl::SimpleAtoi(number, &index);
      if (device != "cpu" && device != "auto" && (!is_cuda || index < 0)) {
        return absl::StrCat("must be cpu, cuda:N or auto, not \"", device, "\"");
      }
      given->push_back(is_cuda ? absl::StrCat("cuda:", index) : std::string(device));
    }
    *target = *given;
    return "";
  };
  return {"cpu|cuda:N|auto", absl::StrJoin(*target, ","), add, /*repeats=*/true};
}

ConfigValue Number(int* target, int min, int max) { return AnyNumber(target, min, max); }
ConfigValue Number(int64_t* target, int64_t min, int64_t max) {
  return AnyNumber(target, min, max);
}
ConfigValue Number(float* target, float min, float max) { return AnyNumber(target, min, max); }

ConfigValue Bytes(int* target, int min) { return AnyBytes(target, min); }
ConfigValue Bytes(int64_t* target, int64_t min) { return AnyBytes(target, min); }

ConfigValue Time(absl::Duration* target) {
  return {"TIME", absl::FormatDuration(*target), [=](const std::string& text) -> std::string {
            absl::Duration time;
            if (!absl::ParseDuration(text, &time) || time < absl::ZeroDuration()) {
              return absl::StrCat("must be a time such as 30s or 5m, not \"", text, "\"");
            }
            *target = time;
            return "";
          }};
}

}  // namespace image_variations
