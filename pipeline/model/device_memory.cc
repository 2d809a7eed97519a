#include "pipeline/model/device_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "c10/core/CachingDeviceAllocator.h"
#include "pipeline/model/torch_guard.h"

namespace image_variations {
namespace {

DeviceMemory OfThisProcess() {
  const int64_t page = sysconf(_SC_PAGESIZE);
  DeviceMemory memory{.limit_bytes = page * sysconf(_SC_PHYS_PAGES)};
  int64_t mapped_pages = 0, resident_pages = 0;
  std::ifstream("/proc/self/statm") >> mapped_pages >> resident_pages;
  memory.used_bytes = page * resident_pages;
  int64_t allowed = 0;  // stays 0 where the file says "max", or is missing
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> allowed && allowed > 0) {
    memory.limit_bytes = std::min(memory.limit_bytes, allowed);
  }
  return memory;
}

}  // namespace

DeviceMemory ReadDeviceMemory(const at::Device& device) {
  if (device.is_cpu()) return OfThisProcess();
  DeviceMemory memory;
  const absl::Status told = GuardTorch("reading the device's memory", [&] {
    const auto [free, total] =
        c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index());
    memory = {.used_bytes = static_cast<int64_t>(total - free),
              .limit_bytes = static_cast<int64_t>(total)};
    return absl::OkStatus();
  });
  return told.ok() ? memory : DeviceMemory{};
}

}  // namespace image_variations
