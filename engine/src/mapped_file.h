// Memory-mapped files; the only code that depends on the operating system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dualmode {

class Mapping {
 public:
  // Map a file for reading, or read it if it cannot be mapped. Throws Error.
  static std::shared_ptr<const Mapping> open(const std::string& path);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const uint8_t* bytes() const { return bytes_; }
  size_t size() const { return size_; }

 private:
  Mapping() = default;

  const uint8_t* bytes_ = nullptr;
  size_t size_ = 0;
  void* view_ = nullptr;           // mapped memory
  std::vector<uint64_t> copy_;     // or the contents that were read
};

}  // namespace dualmode
