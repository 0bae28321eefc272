// NEON without dot product: 16-bit activations, a column at a time (smlal by element).
#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "kernels/tables.h"

namespace dualmode {
namespace {

#include "kernels/lanes.h"
#include "kernels/halves.h"
#include "kernels/tiles8.h"

template <int Column>
inline void column_step(const int16x4_t* weights, const int16_t* x, int32x4_t (*sums)[2]) {
  const int16x8_t value = vld1q_s16(x);
  for (size_t o = 0; o < 4; ++o) {
    sums[o][0] = vmlal_lane_s16(sums[o][0], vget_low_s16(value), weights[o], Column);
    sums[o][1] = vmlal_lane_s16(sums[o][1], vget_high_s16(value), weights[o], Column);
  }
}

// Four outputs times eight lanes.
void tile(const Product& p, size_t group, size_t part, size_t lane) {
  const Matrix& m = *p.matrix;
  const auto* x = static_cast<const int16_t*>(p.x) + lane;
  int32x4_t sums[4][2];
  for (auto& row : sums) row[0] = row[1] = vdupq_n_s32(0);
  for (size_t q = m.begin[group]; q < m.begin[group + 1]; ++q) {
    const int8x16_t bytes = vld1q_s8(m.quads + q * m.group * 4 + part * 16);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    const int16x4_t weights[4] = {vget_low_s16(low), vget_high_s16(low), vget_low_s16(high),
                                  vget_high_s16(high)};
    const uint16_t* c = &m.columns[q * 4];
    column_step<0>(weights, x + c[0] * p.stride, sums);
    column_step<1>(weights, x + c[1] * p.stride, sums);
    column_step<2>(weights, x + c[2] * p.stride, sums);
    column_step<3>(weights, x + c[3] * p.stride, sums);
  }
  for (size_t o = 0; o < 4; ++o) {
    const size_t output = group * m.group + part * 4 + o;
    if (output >= m.outputs) return;
    int32_t whole[8];
    vst1q_s32(whole, sums[o][0]);
    vst1q_s32(whole + 4, sums[o][1]);
    finish_lanes(p, output, lane, whole);
  }
}

void product_int8(const Product& p) {
  for (size_t lane = 0; lane < p.lanes; lane += 8) {
    for_parts(*p.matrix, [&](size_t group, size_t part) { tile(p, group, part, lane); });
  }
}

}  // namespace

const Kernels kNeonKernels = {
    "neon", 2,         false,  product_int8, product_fp32, quantize_int16, norm,
    gate,   depthwise, rotate, attend,       convolve9,    tanh_sum,
    narrow, widen,
};

}  // namespace dualmode
