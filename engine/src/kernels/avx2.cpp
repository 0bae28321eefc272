// AVX2 and FMA. int8 products use 16-bit activations: a multiplication of pairs (vpmaddwd) takes
// two columns at a time and, unlike that of bytes (vpmaddubsw), cannot saturate.
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "kernels/tables.h"

namespace dualmode {
namespace {

#include "kernels/lanes.h"
#include "kernels/halves.h"
#include "kernels/pairs_x86.h"

struct MultiplyAdd {
  static __m256i apply(__m256i sum, __m256i x, __m256i w) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
    // One addition after the other: GCC would add products first, and hold too many in registers.
    asm("" : "+x"(sum));
    return sum;
  }
};

void product_int8(const Product& p) { pairs_product<MultiplyAdd>(p); }

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2", 2,         false,  product_int8, product_fp32, quantize_int16, norm,
    gate,   depthwise, rotate, attend,       convolve9,    tanh_sum,
    narrow, widen,
};

}  // namespace dualmode
