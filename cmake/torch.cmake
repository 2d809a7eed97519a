# LibTorch from the wheel in the virtual environment that tools/setup.sh makes. Only iv_pipeline_model links it, PRIVATE:
# the wheel carries protobuf 3.13 headers beside ATen, which nothing else may see. Include after find_package(Protobuf).
file(GLOB IV_TORCH_DIRS "${IV_VENV}/lib/python3*/site-packages/torch/share/cmake/Torch")
set(CMAKE_MESSAGE_LOG_LEVEL ERROR)  # the wheel warns that it has no kineto, which nobody here needs
find_package(Torch CONFIG REQUIRED PATHS ${IV_TORCH_DIRS} NO_DEFAULT_PATH)
unset(CMAKE_MESSAGE_LOG_LEVEL)
if(TORCH_CXX_FLAGS MATCHES "_GLIBCXX_USE_CXX11_ABI=0")
  message(FATAL_ERROR "this LibTorch has the old C++ ABI; gRPC and Abseil of the distribution need the new one")
endif()
