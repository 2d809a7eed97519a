# LibTorch from the wheel in the virtual environment that tools/setup.sh makes. Only iv_pipeline_model links it, PRIVATE:
# the wheel carries protobuf 3.13 headers beside ATen, which nothing else may see. Include after find_package(Protobuf).
file(GLOB IV_TORCH_DIRS "${IV_VENV}/lib/python3*/site-packages/torch/share/cmake/Torch")
# A CUDA wheel wants a CUDA toolkit: the one of the wheels beside it, unless CUDAToolkit_ROOT names another.
file(GLOB IV_CUDA_TOOLKIT "${IV_VENV}/lib/python3*/site-packages/nvidia/cu13")
if(IV_CUDA_TOOLKIT AND NOT CUDAToolkit_ROOT)
  set(CUDA_TOOLKIT_ROOT_DIR ${IV_CUDA_TOOLKIT})
  set(CMAKE_CUDA_COMPILER ${IV_CUDA_TOOLKIT}/bin/nvcc)
  set(CMAKE_CUDA_STANDARD 17)      # of no source here; CMake 3.25 does not know how to ask this compiler for C++20
  set(TORCH_CUDA_ARCH_LIST "8.0")  # likewise; unset, a program is built to ask the GPUs that are here
endif()
set(CMAKE_MESSAGE_LOG_LEVEL ERROR)  # the wheel warns that it has no kineto, which nobody here needs
find_package(Torch CONFIG REQUIRED PATHS ${IV_TORCH_DIRS} NO_DEFAULT_PATH)
unset(CMAKE_MESSAGE_LOG_LEVEL)
# at::parallel_for is a loop in one thread unless its caller is compiled with OpenMP; the threads are the wheel's own.
file(GLOB IV_TORCH_GOMP "${TORCH_INSTALL_PREFIX}/lib/libgomp*.so*")
add_library(iv_torch_openmp INTERFACE)
target_compile_options(iv_torch_openmp INTERFACE -fopenmp)
target_link_libraries(iv_torch_openmp INTERFACE ${IV_TORCH_GOMP})
if(TORCH_CXX_FLAGS MATCHES "_GLIBCXX_USE_CXX11_ABI=0")
  message(FATAL_ERROR "this LibTorch has the old C++ ABI; gRPC and Abseil of the distribution need the new one")
endif()
