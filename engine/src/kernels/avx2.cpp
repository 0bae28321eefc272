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
    // In this order: GCC would multiply ahead of the sums, and hold too many products in registers.
    __m256i product;
    asm volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
                 : "+x"(sum), "=&x"(product)
                 : "x"(x), "x"(w));
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
