// int8 products over quads of columns by VNNI on 256-bit registers; included like lanes.h.
//
// Activations are bytes with 128 added, because vpdpbusd multiplies unsigned by signed; 128 times
// the sum of an output's weights is subtracted at the end. `Outputs` outputs times up to 24 lanes
// stay in registers: 4 if there are 16 registers, 8 if there are 32.

inline void quantize_offset(const float* x, size_t rows, size_t stride, size_t lanes, void* out,
                            float* frame_scale) {
  quantize_bytes(x, rows, stride, lanes, out, frame_scale, 128);
}

#if defined(DUALMODE_EMULATED_VNNI)
// vpdpbusd with AVX2, for tests: adds to each sum four products of an unsigned and a signed byte.
struct DotProduct {
  static __m256i apply(__m256i sum, __m256i x, __m256i w) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0xff)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(w, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
  }
};
#endif

inline __m256i joined(__m128i low, __m128i high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// Four columns of V * 8 lanes as V registers of [lane][column].
template <size_t V>
inline void interleave_quad(const uint8_t* const* c, __m256i* out) {
  size_t v = 0;
  if (V >= 2) {
    __m128i x[4];
    for (size_t k = 0; k < 4; ++k) x[k] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(c[k]));
    const __m128i low01 = _mm_unpacklo_epi8(x[0], x[1]), high01 = _mm_unpackhi_epi8(x[0], x[1]);
    const __m128i low23 = _mm_unpacklo_epi8(x[2], x[3]), high23 = _mm_unpackhi_epi8(x[2], x[3]);
    out[0] = joined(_mm_unpacklo_epi16(low01, low23), _mm_unpackhi_epi16(low01, low23));
    out[1] = joined(_mm_unpacklo_epi16(high01, high23), _mm_unpackhi_epi16(high01, high23));
    v = 2;
  }
  if (V != 2) {
    __m128i x[4];
    for (size_t k = 0; k < 4; ++k) {
      x[k] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(c[k] + v * 8));
    }
    const __m128i first = _mm_unpacklo_epi8(x[0], x[1]), second = _mm_unpacklo_epi8(x[2], x[3]);
    out[v] = joined(_mm_unpacklo_epi16(first, second), _mm_unpackhi_epi16(first, second));
  }
}

template <class Step, size_t Outputs, size_t V>
inline void quads_tile(const Product& p, size_t group, size_t part, size_t lane) {
  const Matrix& m = *p.matrix;
  const auto* x = static_cast<const uint8_t*>(p.x) + lane;
  __m256i sums[Outputs][V] = {};
  const size_t quad_bytes = m.group * 4;
  for (size_t q = m.begin[group]; q < m.begin[group + 1]; ++q) {
    const uint16_t* columns = &m.columns[q * 4];
    const uint8_t* rows[4];
    for (size_t k = 0; k < 4; ++k) rows[k] = x + columns[k] * p.stride;
    __m256i values[V];
    interleave_quad<V>(rows, values);
    const int8_t* w = m.quads + q * quad_bytes + part * Outputs * 4;
    unrolled<Outputs>([&](auto o) {
      int32_t four;
      std::memcpy(&four, w + o * 4, sizeof four);
      const __m256i weight = _mm256_set1_epi32(four);
      unrolled<V>([&](auto v) { sums[o][v] = Step::apply(sums[o][v], values[v], weight); });
    });
  }
  __m256i totals[Outputs][V];  // for a loop, which would keep the sums themselves in memory
  unrolled<Outputs>([&](auto o) {
    unrolled<V>([&](auto v) { totals[o][v] = sums[o][v]; });
  });
  for (size_t o = 0; o < Outputs; ++o) {
    const size_t output = group * m.group + part * Outputs + o;
    if (output >= m.outputs) return;
    const __m256i offset = _mm256_set1_epi32(-128 * m.weight_sums[output]);
    for (size_t v = 0; v < V; ++v) {
      const Floats scale = load(p.frame_scale + lane + v * 8) * m.scale[output];
      const auto sum = (Floats)_mm256_cvtepi32_ps(_mm256_add_epi32(totals[o][v], offset));
      finish(p, p.y + output * p.y_stride + lane + v * 8, sum * scale + m.bias[output]);
    }
  }
}

template <class Step, size_t Outputs>
inline void quads_product(const Product& p) {
  const size_t parts = p.matrix->group / Outputs;
  for_tiles(p.lanes, [&](auto v, size_t lane) {
    for (size_t group = 0; group < p.matrix->groups(); ++group) {
      for (size_t part = 0; part < parts; ++part) {
        quads_tile<Step, Outputs, decltype(v)::value>(p, group, part, lane);
      }
    }
  });
}
