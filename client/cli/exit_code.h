#pragma once

namespace image_variations::client {

// What --help promises to scripts.
enum ExitCode : int {
  kExitDone = 0,
  kExitFailed = 1,          // a picture could not be read, varied or written; health: not serving
  kExitUsage = 2,           // the command line is wrong; nothing was done
  kExitSamplesMissing = 3,  // every picture was answered, but samples were blocked or failed
  kExitServer = 4,          // the server does not answer, refused the work or was too slow
  kExitInterrupted = 130,
};

}  // namespace image_variations::client
