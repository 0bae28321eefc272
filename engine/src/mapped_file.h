// Files as bytes that need no copy: the one place that knows the operating system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace dualmode {

class Mapping {
 public:
  // Map a file for reading; where mapping is not to be had, read it. Throws Error.
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
  void* view_ = nullptr;           // what must be unmapped
  std::vector<uint64_t> copy_;     // or what was read
};

}  // namespace dualmode
