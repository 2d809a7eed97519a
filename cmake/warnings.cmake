# Warnings of our own targets, PRIVATE to them; the presets dev, asan, tsan and tidy make them errors.
option(IV_WERROR "Treat warnings in our own code as errors" OFF)

function(iv_warnings target)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor
    -Wno-missing-field-initializers  # designated initialisers name what differs from the defaults
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
    $<$<BOOL:${IV_WERROR}>:-Werror>)
endfunction()
