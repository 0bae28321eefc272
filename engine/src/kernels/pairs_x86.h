// int8 products over pairs of columns on 256-bit registers; included like lanes.h.
//
// Sums of four outputs times up to 24 lanes stay in registers: twelve, or ten in a short window. Two
// columns of activations are interleaved when they are loaded, weights are widened to 16 bits once
// per quad and broadcast from the stack.

// Interleave two columns of V * 8 lanes; with V >= 2 the first 16 lanes come as 0-3, 8-11 and
// 4-7, 12-15, which `in_order` undoes at the end. If the window is short, the last register has its
// first four lanes twice.
template <size_t V, bool Short>
inline void interleave(const int16_t* a, const int16_t* b, __m256i* out) {
  size_t v = 0;
  if (V >= 2) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a));
    const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    out[0] = _mm256_unpacklo_epi16(x, y);
    out[1] = _mm256_unpackhi_epi16(x, y);
    v = 2;
  }
  if (V == 2 && Short) {
    const __m256i first = out[0];
    out[0] = _mm256_permute2x128_si256(first, out[1], 0x20);
    out[1] = _mm256_permute2x128_si256(first, first, 0x11);
  } else if (V == 3 && Short) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(a + 16));
    const __m128i y = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b + 16));
    out[2] = _mm256_broadcastsi128_si256(_mm_unpacklo_epi16(x, y));
  } else if (V != 2) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a + v * 8));
    const __m128i y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + v * 8));
    out[v] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(x, y)),
                                     _mm_unpackhi_epi16(x, y), 1);
  }
}

// Bytes of weights to fetch ahead, about one group. Measured: a product of 16 frames and a 70 % sparse
// matrix reaches 0.77 of the peak instead of 0.71.
constexpr size_t kAhead = 640;

template <size_t V>
inline void in_order(__m256i* sums) {
  if (V < 2) return;
  const __m256i first = sums[0], second = sums[1];
  sums[0] = _mm256_permute2x128_si256(first, second, 0x20);
  sums[1] = _mm256_permute2x128_si256(first, second, 0x31);
}

inline __m256i pair_at(const int16_t* at) {
  int32_t pair;
  std::memcpy(&pair, at, sizeof pair);
  return _mm256_set1_epi32(pair);
}

// A window is short if its last four lanes are unused: then the last registers of two outputs share
// one, with the first four lanes of either, and one weight in each half.
template <class Step, size_t V, bool Short>
inline void pairs_tile(const Product& p, size_t group, size_t part, size_t lane) {
  constexpr size_t kWhole = Short ? V - 1 : V;
  const Matrix& m = *p.matrix;
  const auto* x = static_cast<const int16_t*>(p.x) + lane;
  __m256i sums[4][kWhole] = {}, shared[2] = {};
  const size_t quad_bytes = m.group * 4;
  const size_t end = m.begin[group + 1];
  const uint16_t* columns = m.columns.data();
  for (size_t q = m.begin[group]; q < end; ++q) {
    const int8_t* quad = m.quads + q * quad_bytes + part * 16;
    __builtin_prefetch(quad + kAhead);
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(quad));
    alignas(32) int16_t w[16];
    _mm256_store_si256(reinterpret_cast<__m256i*>(w), _mm256_cvtepi8_epi16(bytes));
    // Weights must be in memory: a load broadcasts without cost, while GCC would extract them from
    // the register by two shuffles each.
    asm volatile("" : "+m"(w));
    unrolled<2>([&](auto pair) {
      const uint16_t* c = columns + q * 4 + pair * 2;
      __m256i values[V];
      interleave<V, Short>(x + c[0] * p.stride, x + c[1] * p.stride, values);
      unrolled<2>([&](auto two) {
        const __m256i first = pair_at(w + two * 8 + pair * 2);
        unrolled<kWhole>([&](auto v) {
          sums[two * 2][v] = Step::apply(sums[two * 2][v], values[v], first);
        });
        const __m256i second = pair_at(w + two * 8 + 4 + pair * 2);
        unrolled<kWhole>([&](auto v) {
          sums[two * 2 + 1][v] = Step::apply(sums[two * 2 + 1][v], values[v], second);
        });
        if constexpr (Short) {
          const __m256i both = _mm256_blend_epi32(first, second, 0xf0);
          shared[two] = Step::apply(shared[two], values[kWhole], both);
        }
      });
    });
  }
  __m256i totals[4][V];  // for a loop, which would keep the sums themselves in memory
  unrolled<4>([&](auto o) {
    if constexpr (kWhole >= 2) in_order<kWhole>(sums[o]);
    unrolled<kWhole>([&](auto v) { totals[o][v] = sums[o][v]; });
    if constexpr (Short) {
      constexpr size_t kOutput = decltype(o)::value;
      const __m256i two = shared[kOutput / 2];
      totals[o][kWhole] = _mm256_permute2x128_si256(two, two, 0x80 + kOutput % 2);
    }
  });
  for (size_t o = 0; o < 4; ++o) {
    const size_t output = group * m.group + part * 4 + o;
    if (output >= m.outputs) return;
    for (size_t v = 0; v < V; ++v) {
      const Floats scale = load(p.frame_scale + lane + v * 8) * m.scale[output];
      const Floats value = (Floats)_mm256_cvtepi32_ps(totals[o][v]) * scale + m.bias[output];
      finish(p, p.y + output * p.y_stride + lane + v * 8, value);
    }
  }
}

template <class Step>
inline void pairs_product(const Product& p) {
  const size_t parts = p.matrix->group / 4;
  for_tiles(p.lanes, [&](auto v, size_t lane) {
    constexpr size_t V = decltype(v)::value;
    // Runs of 24 lanes are windows if windows have 24 lanes, a run of 16 if it is the only one.
    const bool is_short = p.window == V * 8 && (V == 3 || p.lanes == 16);
    const auto tile = V > 1 && is_short ? pairs_tile<Step, V, (V > 1)> : pairs_tile<Step, V, false>;
    for (size_t group = 0; group < p.matrix->groups(); ++group) {
      for (size_t part = 0; part < parts; ++part) tile(p, group, part, lane);
    }
  });
}
