// Enumerators as they are printed.
#pragma once

#include "client/messages.h"

namespace image_variations::client {

constexpr const char* NameOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kGenerated:
      return "generated";
    case Outcome::kFiltered:
      return "filtered";
    case Outcome::kFailed:
      break;
  }
  return "failed";
}

constexpr const char* NameOf(Preprocessing preprocessing) {
  switch (preprocessing) {
    case Preprocessing::kModelCard:
      return "card";
    case Preprocessing::kClipProcessor:
      return "clip";
    case Preprocessing::kUnspecified:
      break;
  }
  return "unspecified";
}

constexpr const char* NameOf(ServerState state) {
  switch (state) {
    case ServerState::kStarting:
      return "starting";
    case ServerState::kServing:
      return "serving";
    case ServerState::kDraining:
      return "draining";
    case ServerState::kFailed:
      return "failed";
    case ServerState::kUnspecified:
      break;
  }
  return "unknown";
}

constexpr const char* NameOf(ServingStatus status) {
  switch (status) {
    case ServingStatus::kServing:
      return "SERVING";
    case ServingStatus::kNotServing:
      return "NOT_SERVING";
    case ServingStatus::kUnknown:
      break;
  }
  return "UNKNOWN";
}

}  // namespace image_variations::client
