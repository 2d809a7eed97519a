// A repository's snapshot in a Hugging Face cache, found without a network:
// models--ORG--REPOSITORY/{refs/REVISION, snapshots/COMMIT, blobs}.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace image_variations {

// What `org/repository` or `org/repository@revision` names.
struct HubReference {
  std::string repository;         // "org/repository"
  std::string revision = "main";  // branch, tag or commit

  // By its shape alone; nothing when `text` cannot be such a name.
  static std::optional<HubReference> Parse(absl::string_view text);
  // The one command that would put it, or what is missing of it, into the cache.
  std::string DownloadCommand() const;
};

struct HubSnapshot {
  std::string folder;
  HubReference reference;
  std::string commit;
};

// NOT_FOUND with DownloadCommand() when the cache has no such repository, revision or snapshot;
// INVALID_ARGUMENT when its files are broken.
absl::StatusOr<HubSnapshot> FindSnapshot(const std::string& cache_folder, const HubReference&);

// What a folder inside a cache is: one of its repositories (whose main revision is meant) or
// snapshots. Nothing for any other folder.
absl::StatusOr<std::optional<HubSnapshot>> IdentifySnapshot(const std::string& folder);

// For an error about a file that is missing in the snapshot: what to do about it.
std::string HowToComplete(const HubSnapshot&);

}  // namespace image_variations
