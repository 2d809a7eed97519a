#include "pipeline/base/folder.h"

#include <dirent.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>

namespace image_variations {

std::vector<std::string> ListFolder(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), &closedir);
  if (folder == nullptr && errno == ENOMEM) throw std::bad_alloc();
  std::vector<std::string> names;
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  return names;
}

std::string RealPath(const std::string& path) {
  char real[PATH_MAX];
  if (realpath(path.c_str(), real) != nullptr) return real;
  if (errno == ENOMEM) throw std::bad_alloc();
  return "";
}

std::string LastName(const std::string& path) {
  std::filesystem::path given(path);
  if (!given.has_filename()) given = given.parent_path();
  const std::string name = given.filename().string();
  return name == "." || name == ".." ? LastName(RealPath(path)) : name;
}

}  // namespace image_variations
