// The safetensors reader: whatever a file holds, it is refused or every tensor lies inside it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/checkpoint/safetensors.h"

namespace image_variations {
namespace {

void CheckTensors(const SafetensorsFile& file, size_t file_size) {
  size_t total = 0;
  int sum = 0;
  for (const std::string& name : file.names()) {
    const TensorView view = file.Find(name).value();
    int64_t elements = 1;
    for (const int64_t side : view.shape) elements *= side;
    IV_CHECK(static_cast<size_t>(elements * BytesPerElement(view.type)) == view.bytes.size());
    for (const char byte : view.bytes) sum += byte;
    total += view.bytes.size();
  }
  IV_CHECK(total < file_size);
  [[maybe_unused]] volatile int read_all = sum;
}

}  // namespace
}  // namespace image_variations

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static const int fd = memfd_create("model.safetensors", 0);
  IV_CHECK(ftruncate(fd, static_cast<off_t>(size)) == 0);
  IV_CHECK(pwrite(fd, bytes, size, 0) == static_cast<ssize_t>(size));
  const auto file = image_variations::SafetensorsFile::Open(absl::StrCat("/proc/self/fd/", fd));
  if (file.ok()) image_variations::CheckTensors(*file, size);
  return 0;
}
