// AVX2 with AVX-VNNI: four columns of int8 per multiplication.
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels/tables.h"

namespace dualmode {
namespace {

#include "kernels/lanes.h"
#include "kernels/halves.h"
#include "kernels/quads_x86.h"

#if !defined(DUALMODE_EMULATED_VNNI)
struct DotProduct {
  static __m256i apply(__m256i sum, __m256i x, __m256i w) {
    return _mm256_dpbusd_avx_epi32(sum, x, w);
  }
};
#endif

void product_int8(const Product& p) { quads_product<DotProduct, 4>(p); }

}  // namespace

const Kernels kAvxVnniKernels = {
    "avxvnni", 1,         true,   product_int8, product_fp32, quantize_offset, norm,
    gate,      depthwise, rotate, attend,       convolve9,    tanh_sum,
    narrow, widen,
};

}  // namespace dualmode
