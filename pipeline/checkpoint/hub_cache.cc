#include "pipeline/checkpoint/hub_cache.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/base/folder.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/file.h"

namespace image_variations {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kRepositoryPrefix = "models--";
constexpr int64_t kMaxRefBytes = 4096;

// A name that is one folder: what the Hub allows, and so neither "." nor "..".
bool IsName(absl::string_view text) {
  return !text.empty() && text[0] != '.' && text[0] != '-' && !absl::StrContains(text, "--") &&
         !absl::StrContains(text, "..") && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

bool IsCommit(absl::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

bool IsFolder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

absl::Status NotInCache(const HubReference& reference, const std::string& what) {
  return absl::NotFoundError(absl::StrCat(
      reference.repository, ": ", what,
      "; this program never downloads, this command does: ", reference.DownloadCommand()));
}

// `repository`: the folder models--ORG--NAME.
absl::StatusOr<HubSnapshot> FindInRepository(const fs::path& repository,
                                             const HubReference& reference) {
  std::string commit = reference.revision;
  if (!IsCommit(commit)) {
    const std::string ref = (repository / "refs" / reference.revision).string();
    absl::StatusOr<std::string> text = ReadSmallFile(ref, kMaxRefBytes);
    if (absl::IsNotFound(text.status())) {
      return NotInCache(reference, std::string(text.status().message()));
    }
    if (!text.ok()) return text.status();
    commit = std::string(absl::StripAsciiWhitespace(*text));
    if (!IsCommit(commit)) {
      return absl::InvalidArgumentError(absl::StrCat(ref, ": not a commit of 40 hex digits"));
    }
  }
  const fs::path folder = repository / "snapshots" / commit;
  if (IsFolder(folder)) return HubSnapshot{folder.string(), reference, commit};
  std::error_code error;
  if (!fs::exists(folder, error) && error == std::errc::too_many_symbolic_link_levels) {
    return absl::InvalidArgumentError(absl::StrCat(folder.string(), ": a loop of symbolic links"));
  }
  return NotInCache(reference, absl::StrCat(folder.string(), ": no such folder"));
}

// The name of the repository that a folder models--ORG--NAME holds, if it is one.
std::optional<std::string> RepositoryOf(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!absl::StartsWith(name, kRepositoryPrefix)) return std::nullopt;
  return absl::StrReplaceAll(absl::StripPrefix(name, kRepositoryPrefix), {{"--", "/"}});
}

}  // namespace

std::optional<HubReference> HubReference::Parse(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('@', 1));
  const std::vector<absl::string_view> names = absl::StrSplit(parts.first, '/');
  if (names.size() != 2 || !IsName(names[0]) || !IsName(names[1])) return std::nullopt;
  HubReference reference{.repository = std::string(parts.first)};
  if (parts.first.size() == text.size()) return reference;
  for (const absl::string_view name : absl::StrSplit(parts.second, '/')) {
    if (!IsName(name)) return std::nullopt;  // refs/pr/1 is a revision too
  }
  reference.revision = std::string(parts.second);
  return reference;
}

std::string HubReference::DownloadCommand() const {
  return absl::StrCat("hf download ", repository,
                      revision == "main" ? "" : absl::StrCat(" --revision ", revision));
}

absl::StatusOr<HubSnapshot> FindSnapshot(const std::string& cache_folder,
                                         const HubReference& reference) {
  const fs::path repository =
      fs::path(cache_folder) /
      absl::StrCat(kRepositoryPrefix, absl::StrReplaceAll(reference.repository, {{"/", "--"}}));
  if (IsFolder(repository)) return FindInRepository(repository, reference);
  return NotInCache(reference,
                    absl::StrCat("neither a folder nor in the Hugging Face cache ", cache_folder));
}

absl::StatusOr<std::optional<HubSnapshot>> IdentifySnapshot(const std::string& folder) {
  const fs::path real = RealPath(folder);
  if (real.empty()) return std::nullopt;
  if (const auto name = RepositoryOf(real); name && IsFolder(real / "snapshots")) {
    ASSIGN_OR_RETURN(HubSnapshot snapshot, FindInRepository(real, {.repository = *name}));
    return snapshot;
  }
  const auto name = RepositoryOf(real.parent_path().parent_path());
  if (!name || real.parent_path().filename() != "snapshots") return std::nullopt;
  const std::string commit = real.filename().string();
  return HubSnapshot{folder, {.repository = *name, .revision = commit}, commit};
}

std::string HowToComplete(const HubSnapshot& snapshot) {
  const fs::path blobs = fs::path(snapshot.folder).parent_path().parent_path() / "blobs";
  bool interrupted = false;
  for (const std::string& name : ListFolder(blobs.string())) {
    interrupted = interrupted || absl::EndsWith(name, ".incomplete");
  }
  return absl::StrCat(
      interrupted ? "a download into this cache was interrupted (*.incomplete); " : "",
      "this command fetches what is missing: ", snapshot.reference.DownloadCommand());
}

}  // namespace image_variations
