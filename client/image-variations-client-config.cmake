# Gives the target image-variations::client. Its headers need Abseil; gRPC and protobuf are only linked.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(Protobuf)
find_dependency(absl CONFIG)
find_dependency(gRPC CONFIG)
include(${CMAKE_CURRENT_LIST_DIR}/image-variations-client-targets.cmake)
