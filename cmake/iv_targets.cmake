# One library per folder, named by its path: iv_library(pipeline/engine SRCS ... DEPS ...) makes iv_pipeline_engine.
# DEPS are PUBLIC, PRIVATE_DEPS are seen by this folder alone. Files are listed relative to the folder.
function(iv_library path)
  cmake_parse_arguments(arg "" "" "HDRS;SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  string(REPLACE "/" "_" name "iv_${path}")
  if(arg_SRCS)
    add_library(${name} STATIC ${arg_SRCS} ${arg_HDRS})
    target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
    target_link_libraries(${name} PUBLIC ${arg_DEPS} PRIVATE ${arg_PRIVATE_DEPS})
    iv_warnings(${name})
  else()
    add_library(${name} INTERFACE ${arg_HDRS})
    target_include_directories(${name} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
    target_link_libraries(${name} INTERFACE ${arg_DEPS})
  endif()
endfunction()

# What simulators run for minutes of virtual time is optimised in the daily loop too.
function(iv_optimised target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Debug>:-O2>)
endfunction()

# iv_program(NAME SRCS ... DEPS ...): an executable in build/<preset>/bin.
function(iv_program name)
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${arg_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_DEPS})
  iv_warnings(${name})
endfunction()

# iv_test(pipeline/engine/step_batcher SRCS step_batcher_test.cc DEPS iv_pipeline_engine LABEL unit)
# makes the GoogleTest program step_batcher_test; `make T=step_batcher` builds and runs it alone.
# LABEL is one of unit (default), sim, parity, system, fuzz; tests/deploy has one of its own. ARGS go to the program.
function(iv_test path)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SRCS;DEPS;ARGS" ${ARGN})
  get_filename_component(name ${path} NAME)
  set(target ${name}_test)
  iv_program(${target} SRCS ${arg_SRCS} DEPS ${arg_DEPS} GTest::gmock GTest::gtest_main)
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_test(NAME ${path} COMMAND ${target} ${arg_ARGS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${path} PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})
endfunction()
