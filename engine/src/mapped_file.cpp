#include "mapped_file.h"

#include <cstdio>

#include "error.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#elif !defined(__EMSCRIPTEN__)
#define DUALMODE_HAS_MMAP
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace dualmode {
namespace {

[[noreturn]] void cannot_open(const std::string& path) {
  throw Error(DUALMODE_CANNOT_OPEN, path + ": no such file, or it cannot be read");
}

#if defined(_WIN32)
// Paths are UTF-8, which Windows takes only as wide characters.
std::wstring wide(const std::string& path) {
  const int bytes = static_cast<int>(path.size());
  const int count = MultiByteToWideChar(CP_UTF8, 0, path.data(), bytes, nullptr, 0);
  std::wstring characters(static_cast<size_t>(count), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.data(), bytes, characters.data(), count);
  return characters;
}
#endif

}  // namespace

std::shared_ptr<const Mapping> Mapping::open(const std::string& path) {
  std::shared_ptr<Mapping> mapping(new Mapping);
#if defined(DUALMODE_HAS_MMAP)
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) cannot_open(path);
  struct stat status {};
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    ::close(file);
    cannot_open(path);
  }
  mapping->size_ = static_cast<size_t>(status.st_size);
  void* view = mmap(nullptr, mapping->size_, PROT_READ, MAP_PRIVATE, file, 0);
  ::close(file);
  if (view == MAP_FAILED) cannot_open(path);
  mapping->view_ = view;
  mapping->bytes_ = static_cast<const uint8_t*>(view);
#elif defined(_WIN32)
  HANDLE file = CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr,
                            OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) cannot_open(path);
  LARGE_INTEGER size{};
  GetFileSizeEx(file, &size);
  HANDLE section = CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
  CloseHandle(file);
  if (section == nullptr) cannot_open(path);
  mapping->view_ = MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
  CloseHandle(section);
  if (mapping->view_ == nullptr) cannot_open(path);
  mapping->size_ = static_cast<size_t>(size.QuadPart);
  mapping->bytes_ = static_cast<const uint8_t*>(mapping->view_);
#else
  FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) cannot_open(path);
  std::fseek(file, 0, SEEK_END);
  const long size = std::ftell(file);
  std::rewind(file);
  if (size > 0) mapping->copy_.resize((static_cast<size_t>(size) + 7) / 8);
  mapping->size_ = std::fread(mapping->copy_.data(), 1, size > 0 ? size : 0, file);
  std::fclose(file);
  if (mapping->size_ == 0) cannot_open(path);
  mapping->bytes_ = reinterpret_cast<const uint8_t*>(mapping->copy_.data());
#endif
  return mapping;
}

Mapping::~Mapping() {
#if defined(DUALMODE_HAS_MMAP)
  if (view_ != nullptr) munmap(view_, size_);
#elif defined(_WIN32)
  if (view_ != nullptr) UnmapViewOfFile(view_);
#endif
}

}  // namespace dualmode
