#include "wav.h"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace {

using Bytes = std::vector<unsigned char>;

uint32_t u32(const Bytes& b, size_t at) {
  return b[at] | b[at + 1] << 8 | b[at + 2] << 16 | static_cast<uint32_t>(b[at + 3]) << 24;
}

uint32_t u16(const Bytes& b, size_t at) { return b[at] | static_cast<uint32_t>(b[at + 1]) << 8; }

struct Format {
  uint32_t tag = 0, channels = 0, rate = 0, bits = 0;
};

float sample_at(const unsigned char* at, const Format& format) {
  if (format.tag == 3) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  if (format.bits == 8) return (static_cast<float>(*at) - 128.0f) / 128.0f;
  uint32_t value = 0;  // the highest bytes of 32 bits
  for (uint32_t i = 0; i < format.bits / 8; ++i) {
    value |= static_cast<uint32_t>(at[i]) << (32 - format.bits + 8 * i);
  }
  return static_cast<float>(static_cast<int32_t>(value)) / 2147483648.0f;
}

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw std::runtime_error(path + ": " + what +
                           "; convert it: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.wav");
}

}  // namespace

std::vector<float> read_wav(const std::string& path) {
  std::ifstream file(std::filesystem::u8path(path), std::ios::binary);
  if (!file) throw std::runtime_error(path + ": no such file, or it cannot be read");
  const Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "RIFF", 4) != 0 ||
      std::memcmp(&bytes[8], "WAVE", 4) != 0) {
    fail(path, "this is not a WAV file");
  }
  Format format;
  for (size_t at = 12; at + 8 <= bytes.size();) {
    const size_t size = u32(bytes, at + 4), start = at + 8;
    const bool whole = size <= bytes.size() - start;
    if (std::memcmp(&bytes[at], "fmt ", 4) == 0 && whole && size >= 16) {
      format = {u16(bytes, start), u16(bytes, start + 2), u32(bytes, start + 4),
                u16(bytes, start + 14)};
      if (format.tag == 0xfffe && size >= 26) format.tag = u16(bytes, start + 24);
    } else if (std::memcmp(&bytes[at], "data", 4) == 0) {
      if (!whole) fail(path, "the file is truncated");
      const bool pcm = format.tag == 1 && (format.bits == 8 || format.bits == 16 ||
                                           format.bits == 24 || format.bits == 32);
      if (!pcm && !(format.tag == 3 && format.bits == 32)) fail(path, "an unknown encoding");
      if (format.rate != 16000) fail(path, std::to_string(format.rate) + " Hz, not 16000");
      if (format.channels == 0) fail(path, "no channels");
      const size_t width = format.bits / 8, frame = width * format.channels;
      std::vector<float> samples(size / frame);
      for (size_t i = 0; i < samples.size(); ++i) {
        float sum = 0.0f;
        for (size_t c = 0; c < format.channels; ++c) {
          sum += sample_at(&bytes[start + i * frame + c * width], format);
        }
        samples[i] = sum / static_cast<float>(format.channels);
      }
      return samples;
    }
    if (!whole) break;
    at = start + size + size % 2;
  }
  fail(path, "it has no samples");
}
