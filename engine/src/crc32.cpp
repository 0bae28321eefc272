#include <array>

#include "bytes.h"

namespace dualmode {
namespace {

// Eight tables allow eight bytes per iteration ("slicing by 8", Kounavis and Berry, 2005).
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0u);
    tables[0][i] = value;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    for (size_t t = 1; t < 8; ++t) {
      tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255u];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32(const uint8_t* bytes, size_t size) {
  uint32_t crc = 0xffffffffu;
  for (; size >= 8; size -= 8, bytes += 8) {
    const uint32_t low = crc ^ read_u32(bytes);
    const uint32_t high = read_u32(bytes + 4);
    crc = kTables[7][low & 255u] ^ kTables[6][low >> 8 & 255u] ^ kTables[5][low >> 16 & 255u] ^
          kTables[4][low >> 24] ^ kTables[3][high & 255u] ^ kTables[2][high >> 8 & 255u] ^
          kTables[1][high >> 16 & 255u] ^ kTables[0][high >> 24];
  }
  for (; size > 0; --size, ++bytes) crc = crc >> 8 ^ kTables[0][(crc ^ *bytes) & 255u];
  return ~crc;
}

}  // namespace dualmode
