// What systemd wants to hear of a service of Type=notify: sd_notify(3), without its library.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace image_variations {

// Sends `state`, such as "READY=1", to the socket that systemd named in NOTIFY_SOCKET. Nothing
// happens when `socket` is empty or nobody listens there.
void NotifySystemd(const std::string& socket, absl::string_view state);

}  // namespace image_variations
