// RETURN_IF_ERROR, ASSIGN_OR_RETURN and IV_CHECK. The first two have Abseil's names and meaning, so
// that a newer Abseil deletes this file.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define IV_STATUS_CONCAT_INNER(a, b) a##b
#define IV_STATUS_CONCAT(a, b) IV_STATUS_CONCAT_INNER(a, b)

// Returns the status from the enclosing function when it is not OK.
#define RETURN_IF_ERROR(expression)                                               \
  do {                                                                            \
    if (absl::Status iv_status = (expression); !iv_status.ok()) return iv_status; \
  } while (false)

// ASSIGN_OR_RETURN(auto value, Function()): the value, or return of its status.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_IMPL(IV_STATUS_CONCAT(iv_statusor_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_IMPL(statusor, declaration, expression) \
  auto statusor = (expression);                                  \
  if (!statusor.ok()) return std::move(statusor).status();       \
  declaration = *std::move(statusor)

// Ends the process with file and line when a condition of our own making does not hold; never for
// input.
#define IV_CHECK(condition)                                                              \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
