#include "pipeline/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/pipeline/checkpoint/safetensors_bytes.h"
#include "tests/support/temporary_folder.h"

namespace image_variations {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kTwoTensors[] =
    R"({"__metadata__": {"format": "pt"},)"
    R"( "weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},)"
    R"( "bias": {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]}})";
constexpr char kTwelveBytes[] = "abcdefghijkl";

std::string OneTensor(absl::string_view dtype, absl::string_view shape, absl::string_view offsets) {
  return absl::StrCat(R"({"weight": {"dtype": ")", dtype, R"(", "shape": )", shape,
                      R"(, "data_offsets": )", offsets, "}}");
}

int64_t PeakKilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

class Safetensors : public testing::Test {
 protected:
  absl::StatusOr<SafetensorsFile> Open(const std::string& bytes) {
    return SafetensorsFile::Open(folder_.Write("model.safetensors", bytes));
  }
  std::string OpenMessage(const std::string& bytes) {
    return std::string(Open(bytes).status().message());
  }

  TemporaryFolder folder_;
};

std::string Text(const TensorView& view) { return {view.bytes.begin(), view.bytes.end()}; }

TEST_F(Safetensors, FindsTensorsByName) {
  const auto file = Open(SafetensorsBytes(kTwoTensors, kTwelveBytes));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto weight = file->Find("weight");
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ(weight->type, TensorType::kFloat32);
  EXPECT_THAT(weight->shape, ElementsAre(2, 1));
  EXPECT_EQ(Text(*weight), "abcdefgh");
  EXPECT_EQ(Text(*file->Find("bias")), "ijkl");
}

TEST_F(Safetensors, ListsNamesSortedWithoutMetadata) {
  EXPECT_THAT(Open(SafetensorsBytes(kTwoTensors, kTwelveBytes))->names(),
              ElementsAre("bias", "weight"));
}

TEST_F(Safetensors, NamesTensorAndFileWhenThereIsNoSuchTensor) {
  const absl::Status status =
      Open(SafetensorsBytes(kTwoTensors, kTwelveBytes))->Find("gain").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("gain"), HasSubstr("model.safetensors")));
}

TEST_F(Safetensors, ReadsEveryElementType) {
  const std::pair<const char*, int> types[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}};
  for (const auto& [name, bytes] : types) {
    const auto file =
        Open(SafetensorsBytes(OneTensor(name, "[1]", absl::StrCat("[0, ", bytes, "]")),
                              std::string(static_cast<size_t>(bytes), 'x')));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(BytesPerElement(file->Find("weight")->type), bytes) << name;
  }
}

TEST_F(Safetensors, AcceptsScalarsEmptyTensorsPaddingAndNoTensors) {
  const std::string right[] = {
      SafetensorsBytes("{}"),
      SafetensorsBytes(OneTensor("F32", "[]", "[0, 4]"), "abcd"),
      SafetensorsBytes(OneTensor("F32", "[3, 0]", "[0, 0]")),
      SafetensorsBytes(OneTensor("F32", "[1]", "[0, 4]") + "     ", "abcd"),
  };
  for (const std::string& bytes : right) EXPECT_TRUE(Open(bytes).ok()) << OpenMessage(bytes);
}

TEST_F(Safetensors, TruncationAtAnyByteIsAnError) {
  const std::string whole = SafetensorsBytes(kTwoTensors, kTwelveBytes);
  for (size_t size = 0; size < whole.size(); ++size) {
    const absl::Status status = Open(whole.substr(0, size)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors")) << size;
  }
}

TEST_F(Safetensors, AnyByteOfTheHeaderMayBeWrongWithoutHarm) {
  const std::string whole = SafetensorsBytes(kTwoTensors, kTwelveBytes);
  for (size_t i = 0; i + sizeof kTwelveBytes - 1 < whole.size(); ++i) {
    for (const char wrong : {'\0', '\xff', '"', '{', '9', '-', ' '}) {
      std::string bytes = whole;
      bytes[i] = wrong;
      const auto file = Open(bytes);
      if (!file.ok()) continue;
      for (const std::string& name : file->names()) {
        const std::string read = Text(*file->Find(name));
        EXPECT_LE(read.size(), sizeof kTwelveBytes) << i;
      }
    }
  }
}

TEST_F(Safetensors, RefusesAHeaderLongerThanTheFileOrThanTheFormatAllows) {
  const std::pair<std::string, const char*> wrong[] = {
      {SafetensorsBytes("{}", "", 1ull << 60), "header length 1152921504606846976, at most 2"},
      {SafetensorsBytes("{}", "", ~0ull), "header length 18446744073709551615, at most 2"},
      {SafetensorsBytes("{}", "", 3), "header length 3, at most 2"},
      {"seven b", "7 bytes are too short"},
  };
  for (const auto& [bytes, message] : wrong) {
    EXPECT_EQ(Open(bytes).status().code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(OpenMessage(bytes), HasSubstr(message));
  }
  const std::string path =
      folder_.Write("model.safetensors", SafetensorsBytes("{}", "", 200'000'000));
  std::filesystem::resize_file(path, 300'000'000);  // sparse
  EXPECT_THAT(std::string(SafetensorsFile::Open(path).status().message()),
              HasSubstr("header length 200000000, at most 100000000"));
}

// The most expensive header of 2 MB that the format allows: many small entries, all of them right.
TEST_F(Safetensors, ReadingAHeaderTakesASmallMultipleOfItsMemory) {
  std::string header = "{";
  for (int i = 0; header.size() < 2'000'000; ++i) {
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"", i,
                    R"(":{"dtype":"F16","shape":[0],"data_offsets":[0,0]})");
  }
  header += "}";
  const std::string path = folder_.Write("model.safetensors", SafetensorsBytes(header));
#if defined(__SANITIZE_ADDRESS__)
  constexpr int kTimes = 24;  // it puts room around each allocation
#elif defined(__SANITIZE_THREAD__)
  constexpr int kTimes = 48;  // it remembers who touched what
#else
  constexpr int kTimes = 12;
#endif
  const int64_t before = PeakKilobytes();
  ASSERT_TRUE(SafetensorsFile::Open(path).ok());
  EXPECT_LT(PeakKilobytes() - before, 2'000 * kTimes);
}

TEST_F(Safetensors, SaysThatAPipeOrALoopOfLinksIsNoFile) {
  const std::string pipe = (folder_.path() / "pipe.safetensors").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(SafetensorsFile::Open(pipe).status(),
            absl::InvalidArgumentError(absl::StrCat(pipe, ": not a regular file")));
  const std::string loop = (folder_.path() / "loop.safetensors").string();
  std::filesystem::create_symlink("loop.safetensors", loop);
  EXPECT_EQ(SafetensorsFile::Open(loop).status(),
            absl::InvalidArgumentError(absl::StrCat(loop, ": a loop of symbolic links")));
}

TEST_F(Safetensors, SaysThatAFileIsAGitLfsPointer) {
  EXPECT_THAT(OpenMessage("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
              HasSubstr("git lfs pull"));
}

TEST_F(Safetensors, SaysThatAFileIsEmptyOrAFolder) {
  EXPECT_THAT(OpenMessage(""), HasSubstr("empty file"));
  const absl::Status status = SafetensorsFile::Open(folder_.path().string()).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("not a regular file"));
}

TEST_F(Safetensors, SaysThatThereIsNoFile) {
  const std::string path = (folder_.path() / "absent.safetensors").string();
  EXPECT_EQ(SafetensorsFile::Open(path).status(),
            absl::NotFoundError(absl::StrCat(path, ": no such file")));
}

TEST_F(Safetensors, NamesTheTargetOfADanglingLink) {
  const auto link = folder_.path() / "linked.safetensors";
  std::filesystem::create_symlink("../blobs/0123", link);
  const absl::Status status = SafetensorsFile::Open(link.string()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a link to ../blobs/0123"));
}

TEST_F(Safetensors, ViewsOutliveAMoveOfTheirFile) {
  auto file = Open(SafetensorsBytes(kTwoTensors, kTwelveBytes));
  const TensorView view = *file->Find("weight");
  const SafetensorsFile moved = *std::move(file);
  EXPECT_EQ(Text(view), "abcdefgh");
}

int64_t ResidentPages() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident;
}

TEST_F(Safetensors, ReleasedPagesLeaveTheResidentSetAndComeBackWhenRead) {
  constexpr int64_t kBytes = 32 << 20;
  const auto file = Open(SafetensorsBytes(
      OneTensor("F16", absl::StrCat("[", kBytes / 2, "]"), absl::StrCat("[0, ", kBytes, "]")),
      std::string(kBytes, 'x')));
  const TensorView view = *file->Find("weight");
  const auto sum = [&view] {
    return std::accumulate(view.bytes.begin(), view.bytes.end(), int64_t{0});
  };
  EXPECT_EQ(sum(), kBytes * 'x');
  const int64_t before = ResidentPages();
  SafetensorsFile::Release(view);
  EXPECT_GT((before - ResidentPages()) * sysconf(_SC_PAGESIZE), kBytes * 3 / 4);
  EXPECT_EQ(sum(), kBytes * 'x');
}

}  // namespace
}  // namespace image_variations
