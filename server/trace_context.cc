#include "server/trace_context.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace image_variations {
namespace {

constexpr size_t kLength = 55;  // 00-TRACE-SPAN-FLAGS

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '0'; });
}

// An identifier of 16 hexadecimal digits that is not zero.
std::string Draw() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrFormat("%016x", std::max<uint64_t>(1, random()));
}

// https://www.w3.org/TR/trace-context/#traceparent-header
bool IsWellFormed(absl::string_view text) {
  if (text.size() < kLength || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  const absl::string_view version = text.substr(0, 2);
  if (!IsLowerHex(version) || version == "ff") return false;
  if (version == "00" ? text.size() > kLength : text.size() > kLength && text[kLength] != '-') {
    return false;
  }
  const absl::string_view trace = text.substr(3, 32), span = text.substr(36, 16);
  return IsLowerHex(trace) && !IsZero(trace) && IsLowerHex(span) && !IsZero(span) &&
         IsLowerHex(text.substr(53, 2));
}

}  // namespace

std::string TraceContext::ToTraceparent() const {
  return absl::StrCat("00-", trace_id, "-", span_id, "-", flags);
}

TraceContext ContinueTrace(absl::string_view traceparent) {
  if (!IsWellFormed(traceparent)) {
    return {.trace_id = absl::StrCat(Draw(), Draw()), .span_id = Draw(), .flags = "00"};
  }
  return {.trace_id = std::string(traceparent.substr(3, 32)),
          .span_id = Draw(),
          .flags = std::string(traceparent.substr(53, 2))};
}

}  // namespace image_variations
