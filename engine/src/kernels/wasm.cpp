// WebAssembly SIMD: 16-bit activations, pairs of columns (i32x4.dot_i16x8_s).
#include <wasm_simd128.h>

#include <cstring>
#include <type_traits>

#include "kernels/tables.h"

namespace dualmode {
namespace {

#include "kernels/lanes.h"
#include "kernels/halves.h"
#include "kernels/tiles8.h"

// Four outputs times eight lanes.
void tile(const Product& p, size_t group, size_t part, size_t lane) {
  const Matrix& m = *p.matrix;
  const auto* x = static_cast<const int16_t*>(p.x) + lane;
  v128_t sums[4][2];
  for (auto& row : sums) row[0] = row[1] = wasm_i32x4_splat(0);
  for (size_t q = m.begin[group]; q < m.begin[group + 1]; ++q) {
    const v128_t bytes = wasm_v128_load(m.quads + q * m.group * 4 + part * 16);
    int32_t pairs[8];  // [output][pair] of two 16-bit weights
    wasm_v128_store(pairs, wasm_i16x8_extend_low_i8x16(bytes));
    wasm_v128_store(pairs + 4, wasm_i16x8_extend_high_i8x16(bytes));
    for (size_t pair = 0; pair < 2; ++pair) {
      const uint16_t* c = &m.columns[q * 4 + pair * 2];
      const v128_t a = wasm_v128_load(x + c[0] * p.stride);
      const v128_t b = wasm_v128_load(x + c[1] * p.stride);
      const v128_t low = wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
      const v128_t high = wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
      for (size_t o = 0; o < 4; ++o) {
        const v128_t weight = wasm_i32x4_splat(pairs[o * 2 + pair]);
        sums[o][0] = wasm_i32x4_add(sums[o][0], wasm_i32x4_dot_i16x8(low, weight));
        sums[o][1] = wasm_i32x4_add(sums[o][1], wasm_i32x4_dot_i16x8(high, weight));
      }
    }
  }
  for (size_t o = 0; o < 4; ++o) {
    const size_t output = group * m.group + part * 4 + o;
    if (output >= m.outputs) return;
    int32_t whole[8];
    wasm_v128_store(whole, sums[o][0]);
    wasm_v128_store(whole + 4, sums[o][1]);
    finish_lanes(p, output, lane, whole);
  }
}

void product_int8(const Product& p) {
  for (size_t lane = 0; lane < p.lanes; lane += 8) {
    for_parts(*p.matrix, [&](size_t group, size_t part) { tile(p, group, part, lane); });
  }
}

}  // namespace

const Kernels kWasmKernels = {
    "wasm", 2,         false,  product_int8, product_fp32, quantize_int16, norm,
    gate,   depthwise, rotate, attend,       convolve9,    tanh_sum,
    narrow, widen,
};

}  // namespace dualmode
