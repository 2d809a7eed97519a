# iv_plant_mutant(NAME SOURCE OLD NEW TEST test.cc... DEPS ...) builds the test against SOURCE with OLD replaced by NEW, a
# one-line bug, and expects it to fail. A pattern that is no longer in the source stops the configuration. Mutants are built
# and run by the presets "mutants" (make test): each compiles a source of its own, a minute in all.
add_custom_target(mutants)

function(iv_plant_mutant name source old new)
  cmake_parse_arguments(arg "" "" "TEST;DEPS" ${ARGN})
  set(original ${PROJECT_SOURCE_DIR}/${source})
  set(mutant ${PROJECT_BINARY_DIR}/mutants/${name}/${source})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${original})
  file(READ ${original} text)
  string(FIND "${text}" "${old}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "mutant ${name}: '${old}' is not in ${source} any more")
  endif()
  string(REPLACE "${old}" "${new}" text "${text}")
  file(CONFIGURE OUTPUT ${mutant} CONTENT "${text}" @ONLY)

  # The mutant's object is linked first, so that the library's own is not taken.
  add_executable(mutant_${name} EXCLUDE_FROM_ALL ${mutant} ${arg_TEST})
  add_dependencies(mutants mutant_${name})
  target_include_directories(mutant_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(mutant_${name} PRIVATE ${arg_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME mutants/${name}
           COMMAND sh -c "test -x $0 && ! $0 --gtest_brief=1 --gtest_fail_fast >/dev/null 2>&1" $<TARGET_FILE:mutant_${name}>)
  set_tests_properties(mutants/${name} PROPERTIES LABELS mutant TIMEOUT 300)
endfunction()
