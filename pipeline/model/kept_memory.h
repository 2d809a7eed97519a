// Memory of tensors that outlives them.
#pragma once

namespace image_variations {

// From now on LibTorch's large CPU tensors take memory that earlier ones gave back. Otherwise each
// of them is mapped, filled with zeros by the kernel and unmapped again, which costs as much as the
// arithmetic of the small operations. For the whole process; calls after the first do nothing.
void KeepTensorMemory();

}  // namespace image_variations
