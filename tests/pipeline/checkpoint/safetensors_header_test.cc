#include "pipeline/checkpoint/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace image_variations {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Tensor(absl::string_view dtype, absl::string_view shape, absl::string_view offsets) {
  return absl::StrCat(R"({"weight": {"dtype": ")", dtype, R"(", "shape": )", shape,
                      R"(, "data_offsets": )", offsets, "}}");
}

std::string TwoTensors(absl::string_view a_offsets, absl::string_view b_offsets) {
  return absl::StrCat(R"({"a": {"dtype": "F16", "shape": [2], "data_offsets": )", a_offsets,
                      R"(}, "b": {"dtype": "F16", "shape": [2], "data_offsets": )", b_offsets,
                      "}}");
}

struct Refusal {
  const char* rule;
  std::string header;
  uint64_t data_bytes;
  const char* message;
};

void ExpectRefused(const Refusal& refusal) {
  const absl::Status status = ParseSafetensorsHeader(refusal.header, refusal.data_bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.rule;
  EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.message)) << refusal.rule;
}

TEST(ParseSafetensorsHeader, ReadsTensorsInTheOrderOfTheirData) {
  const auto entries = ParseSafetensorsHeader(TwoTensors("[4, 8]", "[0, 4]"), 8);
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ((*entries)[0].name, "b");
  EXPECT_EQ((*entries)[0].type, TensorType::kFloat16);
  EXPECT_THAT((*entries)[0].shape, ElementsAre(2));
  EXPECT_EQ((*entries)[1].begin, 4);
  EXPECT_EQ((*entries)[1].end, 8);
}

TEST(ParseSafetensorsHeader, AcceptsWhatTheFormatAllows) {
  const std::pair<std::string, uint64_t> right[] = {
      {"{}", 0},
      {R"({"__metadata__": {"format": "pt"}})", 0},
      {Tensor("F32", "[]", "[0, 4]"), 4},          // a scalar
      {Tensor("F32", "[3, 0]", "[0, 0]"), 0},      // an empty tensor
      {Tensor("F32", "[1]", "[0, 4]") + "  ", 4},  // padding
      {R"({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8], "note": [{"x": 1}, "shape"]}})",
       8},
  };
  for (const auto& [header, data_bytes] : right) {
    EXPECT_TRUE(ParseSafetensorsHeader(header, data_bytes).ok()) << header;
  }
}

TEST(ParseSafetensorsHeader, RefusesAHeaderThatIsNoJsonObject) {
  const Refusal refusals[] = {
      {"begins with {", "", 0, "does not begin with {"},
      {"begins with {", "[]", 0, "does not begin with {"},
      {"begins with {", " {}", 0, "does not begin with {"},
      {"only spaces as padding", "{}\n", 0, "does not end with }"},
      {"only spaces as padding", std::string("{}\0", 3), 0, "does not end with }"},
      {"one document", "{} {}", 0, "not valid JSON"},
      {"JSON", "{,}", 0, "not valid JSON"},
      {"JSON", "{\"a\": NaN}", 0, "not valid JSON"},
      {"UTF-8", "{\"\xff\": {}}", 0, "not valid JSON"},
      {"UTF-8 in escapes", R"({"\ud800": {}})", 0, "not valid JSON"},
      {"metadata is a map", R"({"__metadata__": "pt"})", 0,
       "tensor __metadata__: its header entry"},
      {"metadata holds strings", R"({"__metadata__": {"format": 1}})", 0,
       "__metadata__: the value of \"format\" is not a string"},
      {"metadata holds strings", R"({"__metadata__": {"format": {}}})", 0, "is not a string"},
      {"keys are unique", R"({"a": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]},
                              "a": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}})",
       0, "the key \"a\" appears twice"},
      {"keys are unique",
       R"({"a": {"dtype": "F16", "dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})", 0,
       "the key \"dtype\" appears twice"},
      {"keys are short", "{\"" + std::string(2000, 'n') + "\": {}}", 0,
       "a key of 2000 bytes, limit 1000"},
      {"not deep", "{\"a\": {\"b\": " + std::string(100'000, '[') + "}", 0, "nested deeper"},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(refusal);
}

TEST(ParseSafetensorsHeader, RefusesATensorByItsNameAndWhatIsWrong) {
  const Refusal refusals[] = {
      {"entry is an object", R"({"weight": [1]})", 0, "weight: its header entry is not an object"},
      {"entry is an object", R"({"weight": 1})", 0, "weight: its header entry is not an object"},
      {"dtype", R"({"weight": {}})", 0, "weight: dtype is missing"},
      {"dtype", R"({"weight": {"dtype": 1}})", 0, "weight: dtype is not a string"},
      {"dtype known", Tensor("F64", "[1]", "[0, 8]"), 8, "weight: dtype F64 is not implemented"},
      {"dtype known", Tensor("", "[1]", "[0, 8]"), 8, "weight: dtype  is not implemented"},
      {"shape", R"({"weight": {"dtype": "F32"}})", 0, "weight: shape is missing"},
      {"shape", Tensor("F32", "4", "[0, 4]"), 4, "weight: shape is not a list"},
      {"shape", Tensor("F32", "[-1]", "[0, 4]"), 4, "weight: shape is not a list"},
      {"shape", Tensor("F32", "[1.5]", "[0, 4]"), 4, "weight: shape is not a list"},
      {"shape", Tensor("F32", "[[1]]", "[0, 4]"), 4, "weight: shape is not a list"},
      {"shape", Tensor("F32", "[18446744073709551615]", "[0, 4]"), 4, "weight: shape is not"},
      {"rank", Tensor("F32", "[1,1,1,1,1,1,1,1,1]", "[0, 4]"), 4, "more than 8 dimensions"},
      {"shape product fits 64 bits", Tensor("F32", "[4294967296, 4294967296]", "[0, 0]"), 0,
       "has too many elements"},
      {"shape product fits 64 bits", Tensor("F32", "[4611686018427387905]", "[0, 4]"), 4,
       "has too many elements"},
      {"offsets", R"({"weight": {"dtype": "F32", "shape": [1]}})", 0, "data_offsets is not a pair"},
      {"offsets", Tensor("F32", "[1]", "[0]"), 4, "data_offsets is not a pair"},
      {"offsets", Tensor("F32", "[1]", "[0, 4, 8]"), 4, "data_offsets is not a pair"},
      {"offsets", Tensor("F32", "[1]", "[-4, 0]"), 4, "data_offsets is not a pair"},
      {"offsets fit the shape", Tensor("F32", "[2]", "[0, 4]"), 4,
       "shape [2] takes 8 bytes, data_offsets are [0,4]"},
      {"begin before end", Tensor("F32", "[1]", "[4, 0]"), 4, "data_offsets are [4,0]"},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(refusal);
}

TEST(ParseSafetensorsHeader, RefusesDataThatIsNotCoveredExactlyOnce) {
  const Refusal refusals[] = {
      {"the first begins at 0", Tensor("F32", "[1]", "[4, 8]"), 8, "weight: data begins at 4"},
      {"no overlap", TwoTensors("[0, 4]", "[2, 6]"), 6,
       "tensor b: data begins at 2, that of the tensor before it ends at 4"},
      {"no overlap", TwoTensors("[0, 4]", "[0, 4]"), 4, "tensor b: data begins at 0"},
      {"no hole", TwoTensors("[0, 4]", "[6, 10]"), 10, "tensor b: data begins at 6"},
      {"ends at the end", Tensor("F32", "[1]", "[0, 4]"), 8, "trailing bytes"},
      {"ends at the end", "{}", 1, "trailing bytes"},
      {"inside the file", Tensor("F32", "[4]", "[0, 16]"), 4,
       "truncated: the header describes 16 bytes of data, the file has 4"},
      {"inside the file", Tensor("F32", "[1152921504606846976]", "[0, 4611686018427387904]"), 4,
       "truncated"},
  };
  for (const Refusal& refusal : refusals) ExpectRefused(refusal);
}

}  // namespace
}  // namespace image_variations
