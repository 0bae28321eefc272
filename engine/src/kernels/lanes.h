// Operations on eight lanes, with the vector types of GCC and Clang, which are one AVX2 register or
// two registers of NEON or WebAssembly. All operations except the int8 products are written with
// them once. Included by one file for each kind of processor, in its anonymous namespace, so that
// code compiled for one never runs on another.

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Integers __attribute__((vector_size(32)));

inline Floats splat(float value) {
  return Floats{value, value, value, value, value, value, value, value};
}

inline Floats load(const float* at) {
  Floats value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

inline void store(float* at, Floats value) { __builtin_memcpy(at, &value, sizeof value); }

inline Floats greater_of(Floats a, Floats b) { return a > b ? a : b; }
inline Floats lesser_of(Floats a, Floats b) { return a < b ? a : b; }
inline Floats magnitude(Floats a) {
  return (Floats)((Integers)a & 0x7fffffff);
}

// Rounding to the nearest integer of |x| < 2^22, in the low bits of the sum.
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

// e^x to 2 ulp: the series of Cephes for the fraction, and the exponent by its bits.
inline Floats exponential(Floats x) {
  x = lesser_of(greater_of(x, splat(-87.0f)), splat(88.0f));
  const Floats shifted = x * 1.44269504f + kRound;
  const Floats whole = shifted - kRound;
  const Floats r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Integers exponent = ((Integers)shifted - 0x4b400000 + 127) << 23;
  return p * (Floats)exponent;
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }
inline Floats hyperbolic_tangent(Floats x) {
  // Near zero the quotient would cancel, so use a short series.
  const Floats e = exponential(x * 2.0f);
  const Floats square = x * x;
  const Floats series = x * (1.0f - square * (0.333333333f - square * 0.133333333f));
  return magnitude(x) < splat(0.04f) ? series : 1.0f - 2.0f / (e + 1.0f);
}

inline void finish(const Product& p, float* y, Floats value) {
  switch (p.finish) {
    case Finish::kStore: store(y, value); break;
    case Finish::kRelu: store(y, greater_of(value, splat(0.0f))); break;
    case Finish::kSilu: store(y, value * sigmoid(value)); break;
    case Finish::kAdd: store(y, load(y) + p.factor * value); break;
  }
}

// Calls f(0) to f(N - 1) with constants. GCC keeps an array in registers only if all its indices are
// constants early on, which those of a loop are not.
template <size_t N, class Call>
__attribute__((always_inline)) inline void unrolled(Call f) {
  if constexpr (N > 0) {
    unrolled<N - 1>(f);
    f(std::integral_constant<size_t, N - 1>{});
  }
}

// Four outputs times V * 8 lanes: their sums stay in registers.
template <size_t V>
inline void fp32_tile(const Product& p, size_t group, size_t half, size_t lane) {
  const Matrix& m = *p.matrix;
  const float* x = static_cast<const float*>(p.x) + lane;
  Floats sums[4][V] = {};
  for (size_t c = m.begin[group]; c < m.begin[group + 1]; ++c) {
    const float* at = x + m.columns[c] * p.stride;
    const float* w = m.floats + c * 8 + half * 4;
    unrolled<V>([&](auto v) {
      const Floats value = load(at + v * 8);
      unrolled<4>([&](auto o) { sums[o][v] += w[o] * value; });
    });
  }
  Floats totals[4][V];  // for a loop, which would keep the sums themselves in memory
  unrolled<4>([&](auto o) { unrolled<V>([&](auto v) { totals[o][v] = sums[o][v]; }); });
  for (size_t o = 0; o < 4; ++o) {
    const size_t output = group * 8 + half * 4 + o;
    if (output >= m.outputs) return;
    for (size_t v = 0; v < V; ++v) {
      finish(p, p.y + output * p.y_stride + lane + v * 8, totals[o][v] + m.bias[output]);
    }
  }
}

// Call `tile` for lanes in runs of 24, 16 and 8.
template <class Tile>
inline void for_tiles(size_t lanes, Tile tile) {
  size_t lane = 0;
  while (lanes - lane >= 48 || lanes - lane == 24) {
    tile(std::integral_constant<size_t, 3>{}, lane);
    lane += 24;
  }
  while (lanes - lane >= 16) {
    tile(std::integral_constant<size_t, 2>{}, lane);
    lane += 16;
  }
  if (lane < lanes) tile(std::integral_constant<size_t, 1>{}, lane);
}

inline void product_fp32(const Product& p) {
  for_tiles(p.lanes, [&](auto v, size_t lane) {
    for (size_t group = 0; group < p.matrix->groups(); ++group) {
      fp32_tile<decltype(v)::value>(p, group, 0, lane);
      fp32_tile<decltype(v)::value>(p, group, 1, lane);
    }
  });
}

inline Floats largest_magnitude(const float* x, size_t rows, size_t stride) {
  Floats largest = splat(0.0f);
  for (size_t r = 0; r < rows; ++r) largest = greater_of(largest, magnitude(load(x + r * stride)));
  return largest;
}

// Scales of eight lanes, and the factors for their values.
inline Floats quantizing_factor(const float* x, size_t rows, size_t stride, float* frame_scale) {
  const Floats largest = largest_magnitude(x, rows, stride);
  store(frame_scale, largest / 127.0f);
  return largest > splat(1e-30f) ? 127.0f / largest : splat(0.0f);
}

inline Integers quantized(Floats value, Floats factor) {
  return (Integers)(value * factor + kRound) - 0x4b400000;
}

inline void quantize_int16(const float* x, size_t rows, size_t stride, size_t lanes, void* out,
                           float* frame_scale) {
  typedef int16_t Shorts __attribute__((vector_size(16)));
  auto* q = static_cast<int16_t*>(out);
  for (size_t lane = 0; lane < lanes; lane += 8) {
    const Floats factor = quantizing_factor(x + lane, rows, stride, frame_scale + lane);
    for (size_t r = 0; r < rows; ++r) {
      const Integers value = quantized(load(x + r * stride + lane), factor);
      const Shorts narrow = __builtin_convertvector(value, Shorts);
      __builtin_memcpy(q + r * stride + lane, &narrow, sizeof narrow);
    }
  }
}

// Values as bytes, `offset` added to each.
inline void quantize_bytes(const float* x, size_t rows, size_t stride, size_t lanes, void* out,
                           float* frame_scale, int32_t offset) {
  typedef int8_t Bytes __attribute__((vector_size(8)));
  auto* q = static_cast<uint8_t*>(out);
  for (size_t lane = 0; lane < lanes; lane += 8) {
    const Floats factor = quantizing_factor(x + lane, rows, stride, frame_scale + lane);
    for (size_t r = 0; r < rows; ++r) {
      const Integers value = quantized(load(x + r * stride + lane), factor) + offset;
      const Bytes narrow = __builtin_convertvector(value, Bytes);
      __builtin_memcpy(q + r * stride + lane, &narrow, sizeof narrow);
    }
  }
}

inline void norm(const float* x, size_t rows, size_t stride, size_t lanes, const float* gain,
                 const float* bias, float* y) {
  const float share = 1.0f / static_cast<float>(rows);
  for (size_t lane = 0; lane < lanes; lane += 8) {
    Floats mean = splat(0.0f), variance = splat(0.0f);
    for (size_t r = 0; r < rows; ++r) mean += load(x + r * stride + lane);
    mean *= share;
    for (size_t r = 0; r < rows; ++r) {
      const Floats centred = load(x + r * stride + lane) - mean;
      variance += centred * centred;
    }
    Floats inverse = variance * share + 1e-5f;
    for (size_t i = 0; i < 8; ++i) inverse[i] = 1.0f / __builtin_sqrtf(inverse[i]);
    for (size_t r = 0; r < rows; ++r) {
      const Floats centred = load(x + r * stride + lane) - mean;
      store(y + r * stride + lane, centred * inverse * gain[r] + bias[r]);
    }
  }
}

inline void gate(const float* x, size_t rows, size_t stride, size_t lanes, float* y,
                 size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t lane = 0; lane < lanes; lane += 8) {
      const Floats by = sigmoid(load(x + (rows + r) * stride + lane));
      store(y + r * y_stride + lane, load(x + r * stride + lane) * by);
    }
  }
}

inline void depthwise(const float* x, size_t rows, size_t x_stride, size_t lanes,
                      const float* weight, size_t kernel, const float* bias, float* y,
                      size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    const float* w = weight + r * kernel;
    for_tiles(lanes, [&](auto v, size_t lane) {
      constexpr size_t V = decltype(v)::value;
      Floats sums[V];
      for (Floats& sum : sums) sum = splat(bias[r]);
      for (size_t k = 0; k < kernel; ++k) {
        for (size_t i = 0; i < V; ++i) sums[i] += w[k] * load(x + r * x_stride + lane + k + i * 8);
      }
      for (size_t i = 0; i < V; ++i) {
        store(y + r * y_stride + lane + i * 8, sums[i] * sigmoid(sums[i]));
      }
    });
  }
}

inline void rotate(float* x, size_t half, size_t stride, size_t lanes, const float* cosines,
                   const float* sines) {
  for (size_t i = 0; i < half; ++i) {
    float* upper = x + i * stride;
    float* lower = x + (half + i) * stride;
    for (size_t lane = 0; lane < lanes; lane += 8) {
      const Floats a = load(upper + lane), b = load(lower + lane);
      const Floats c = load(cosines + i * stride + lane), s = load(sines + i * stride + lane);
      store(upper + lane, a * c - b * s);
      store(lower + lane, b * c + a * s);
    }
  }
}

// Scores of N keys for V * 8 queries, not yet scaled.
template <size_t N, size_t V>
inline void score_keys(const Attention& a, size_t lane, size_t first) {
  Floats sums[N][V];
  for (auto& row : sums) {
    for (Floats& sum : row) sum = splat(0.0f);
  }
  const float* keys[N];
  for (size_t n = 0; n < N; ++n) keys[n] = a.keys[first + n] + a.offset;
  for (size_t d = 0; d < a.head_width; ++d) {
    const float* q = a.query + d * a.stride + lane;
    for (size_t v = 0; v < V; ++v) {
      const Floats query = load(q + v * 8);
      for (size_t n = 0; n < N; ++n) sums[n][v] += keys[n][d] * query;
    }
  }
  for (size_t n = 0; n < N; ++n) {
    for (size_t v = 0; v < V; ++v) store(a.scores + ((first + n) * V + v) * 8, sums[n][v]);
  }
}

// N values of the head's output for V * 8 queries.
template <size_t N, size_t V>
inline void mix_values(const Attention& a, size_t lane, size_t first, const Floats* share) {
  Floats sums[N][V];
  for (auto& row : sums) {
    for (Floats& sum : row) sum = splat(0.0f);
  }
  for (size_t j = 0; j < a.count; ++j) {
    const float* value = a.values[j] + a.offset + first;
    for (size_t v = 0; v < V; ++v) {
      const Floats weight = load(a.scores + (j * V + v) * 8);
      for (size_t n = 0; n < N; ++n) sums[n][v] += value[n] * weight;
    }
  }
  for (size_t n = 0; n < N; ++n) {
    float* y = a.y + (first + n) * a.y_stride + lane;
    for (size_t v = 0; v < V; ++v) store(y + v * 8, sums[n][v] * share[v]);
  }
}

inline void attend(const Attention& a) {
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(a.head_width));
  for_tiles(a.lanes, [&](auto tile, size_t lane) {
    constexpr size_t V = decltype(tile)::value;
    size_t j = 0;
    for (; j + 4 <= a.count; j += 4) score_keys<4, V>(a, lane, j);
    for (; j < a.count; ++j) score_keys<1, V>(a, lane, j);
    Floats share[V];
    for (size_t v = 0; v < V; ++v) {
      Floats largest = splat(-1e30f), total = splat(0.0f);
      for (j = 0; j < a.count; ++j) largest = greater_of(largest, load(a.scores + (j * V + v) * 8));
      for (j = 0; j < a.count; ++j) {
        float* at = a.scores + (j * V + v) * 8;
        const Floats e = exponential((load(at) - largest) * scale);
        store(at, e);
        total += e;
      }
      share[v] = 1.0f / total;
    }
    size_t d = 0;
    for (; d + 4 <= a.head_width; d += 4) mix_values<4, V>(a, lane, d, share);
    for (; d < a.head_width; ++d) mix_values<1, V>(a, lane, d, share);
  });
}

inline void convolve9(const float* const* x, size_t channels, size_t lanes, const float* weight,
                      const float* bias, float* y, size_t y_stride) {
  for (size_t lane = 0; lane < lanes; lane += 8) {
    Floats rows[9];
    for (size_t k = 0; k < 9; ++k) rows[k] = load(x[k] + lane);
    for (size_t c = 0; c < channels; ++c) {
      Floats sum = splat(bias[c]);
      for (size_t k = 0; k < 9; ++k) sum += weight[c * 9 + k] * rows[k];
      store(y + c * y_stride + lane, greater_of(sum, splat(0.0f)));
    }
  }
}

inline void tanh_sum(const float* x, size_t rows, size_t stride, size_t lanes, const float* shift,
                     float* y, size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t lane = 0; lane < lanes; lane += 8) {
      store(y + r * y_stride + lane, hyperbolic_tangent(load(x + r * stride + lane) + shift[r]));
    }
  }
}
