// NEON with dot product (ARMv8.2): four columns of int8 per multiplication (sdot by element).
#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "kernels/tables.h"

namespace dualmode {
namespace {

#include "kernels/lanes.h"
#include "kernels/halves.h"
#include "kernels/tiles8.h"

void quantize_signed(const float* x, size_t rows, size_t stride, size_t lanes, void* out,
                     float* frame_scale) {
  quantize_bytes(x, rows, stride, lanes, out, frame_scale, 0);
}

// Four outputs times V * 8 lanes.
template <size_t V>
void tile(const Product& p, size_t group, size_t part, size_t lane) {
  const Matrix& m = *p.matrix;
  const auto* x = static_cast<const int8_t*>(p.x) + lane;
  int32x4_t sums[4][V * 2];
  for (auto& row : sums) {
    for (int32x4_t& sum : row) sum = vdupq_n_s32(0);
  }
  for (size_t q = m.begin[group]; q < m.begin[group + 1]; ++q) {
    const int8x16_t weights = vld1q_s8(m.quads + q * m.group * 4 + part * 16);
    const uint16_t* c = &m.columns[q * 4];
    for (size_t v = 0; v < V; ++v) {
      const int8x8x2_t first =
          vzip_s8(vld1_s8(x + c[0] * p.stride + v * 8), vld1_s8(x + c[1] * p.stride + v * 8));
      const int8x8x2_t second =
          vzip_s8(vld1_s8(x + c[2] * p.stride + v * 8), vld1_s8(x + c[3] * p.stride + v * 8));
      for (size_t half = 0; half < 2; ++half) {
        const int16x4x2_t quad =
            vzip_s16(vreinterpret_s16_s8(first.val[half]), vreinterpret_s16_s8(second.val[half]));
        const int8x16_t value =
            vcombine_s8(vreinterpret_s8_s16(quad.val[0]), vreinterpret_s8_s16(quad.val[1]));
        int32x4_t* at = &sums[0][v * 2 + half];
        at[0] = vdotq_laneq_s32(at[0], value, weights, 0);
        at[V * 2] = vdotq_laneq_s32(at[V * 2], value, weights, 1);
        at[V * 4] = vdotq_laneq_s32(at[V * 4], value, weights, 2);
        at[V * 6] = vdotq_laneq_s32(at[V * 6], value, weights, 3);
      }
    }
  }
  for (size_t o = 0; o < 4; ++o) {
    const size_t output = group * m.group + part * 4 + o;
    if (output >= m.outputs) return;
    for (size_t v = 0; v < V; ++v) {
      int32_t whole[8];
      vst1q_s32(whole, sums[o][v * 2]);
      vst1q_s32(whole + 4, sums[o][v * 2 + 1]);
      finish_lanes(p, output, lane + v * 8, whole);
    }
  }
}

void product_int8(const Product& p) {
  for_tiles(p.lanes, [&](auto v, size_t lane) {
    for_parts(*p.matrix, [&](size_t group, size_t part) {
      tile<decltype(v)::value>(p, group, part, lane);
    });
  });
}

}  // namespace

const Kernels kNeonDotKernels = {
    "neondot", 1,         false,  product_int8, product_fp32, quantize_signed, norm,
    gate,      depthwise, rotate, attend,       convolve9,    tanh_sum,
    narrow, widen,
};

}  // namespace dualmode
