// Unaligned little-endian values, CRC-32, and half-precision floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dualmode {

inline uint16_t read_u16(const uint8_t* at) {
  return static_cast<uint16_t>(at[0] | static_cast<unsigned>(at[1]) << 8);
}

inline uint32_t read_u32(const uint8_t* at) {
  return static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8 |
         static_cast<uint32_t>(at[2]) << 16 | static_cast<uint32_t>(at[3]) << 24;
}

inline uint64_t read_u64(const uint8_t* at) {
  return read_u32(at) | static_cast<uint64_t>(read_u32(at + 4)) << 32;
}

inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float read_f32(const uint8_t* at) { return float_of_bits(read_u32(at)); }

// IEEE 754 binary16 to binary32, subnormals, infinities and NaN included.
inline float float_of_half(uint32_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = half >> 10 & 31u;
  const uint32_t fraction = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * (1.0f / 16777216.0f);
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 31) return float_of_bits(sign | 0x7f800000u | fraction << 13);
  return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

inline float read_f16(const uint8_t* at) { return float_of_half(read_u16(at)); }

inline size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// The CRC-32 of zlib and PNG.
uint32_t crc32(const uint8_t* bytes, size_t size);

}  // namespace dualmode
