#include "server/token_table.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/base/sha256.h"
#include "pipeline/base/status_macros.h"

namespace image_variations {
namespace {

constexpr size_t kHashDigits = 64;
constexpr size_t kMaxNameLength = 64;

bool IsHash(absl::string_view text) {
  return text.size() == kHashDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

bool IsName(absl::string_view text) {
  return text.size() <= kMaxNameLength && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isgraph(static_cast<unsigned char>(c));
         });
}

absl::Status SetOption(absl::string_view word, Token& token) {
  std::string why;
  if (absl::ConsumePrefix(&word, "until=")) {
    if (absl::ParseTime(absl::RFC3339_full, word, &token.until, &why)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("until=", word, " is no time such as 2027-01-31T00:00:00Z"));
  }
  if (word == "may=inspect") {
    token.right = Right::kInspect;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", word, "\" is neither until=TIME nor may=inspect"));
}

// Its hash, and what it stands for.
absl::StatusOr<std::pair<std::string, Token>> ParseLine(absl::string_view line) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  if (words.size() < 2 || !IsHash(words[1])) {
    return absl::InvalidArgumentError("no NAME and SHA-256 of 64 hex digits");
  }
  if (!IsName(words[0])) {
    return absl::InvalidArgumentError("the name is longer than 64 printable ASCII characters");
  }
  Token token{.name = std::string(words[0])};
  for (size_t i = 2; i < words.size(); ++i) RETURN_IF_ERROR(SetOption(words[i], token));
  return std::pair(absl::AsciiStrToLower(words[1]), std::move(token));
}

}  // namespace

absl::StatusOr<TokenTable> TokenTable::Parse(absl::string_view text) {
  TokenTable table;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    auto token = ParseLine(line);
    if (!token.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": ", token.status().message()));
    }
    if (!table.tokens_.insert(*std::move(token)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": a token for the second time"));
    }
  }
  return table;
}

const Token* TokenTable::Find(absl::string_view token) const {
  const auto found = tokens_.find(Sha256OfText(token));
  return found == tokens_.end() ? nullptr : &found->second;
}

}  // namespace image_variations
