// The exception type of the engine; the C API converts it to a code and a message.
#pragma once

#include <stdexcept>
#include <string>

#include "dualmode/engine.h"

namespace dualmode {

class Error : public std::runtime_error {
 public:
  Error(dualmode_code reason, const std::string& message)
      : std::runtime_error(message), code(reason) {}
  const dualmode_code code;
};

[[noreturn]] inline void bad_artifact(const std::string& what) {
  throw Error(DUALMODE_BAD_ARTIFACT, what + ": export the model again, or copy the file again");
}

}  // namespace dualmode
