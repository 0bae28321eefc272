// Conversions between floats and IEEE 754 binary16, eight at a time; included after lanes.h.
//
// Narrowing rounds to the nearest, ties to even, and values beyond the largest half become that
// half. Both are defined for finite values only; NaN and infinities give any value.

constexpr float kLargestHalf = 65504.0f;

typedef uint16_t Halves __attribute__((vector_size(16)));

#if defined(__F16C__)

inline Halves narrowed(Floats value) {
  return (Halves)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT);
}

inline Floats widened(Halves halves) { return (Floats)_mm256_cvtph_ps((__m128i)halves); }

#elif defined(__aarch64__)

inline Halves narrowed(Floats value) {
  float32x4_t parts[2];
  __builtin_memcpy(parts, &value, sizeof parts);
  const float16x8_t halves = vcombine_f16(vcvt_f16_f32(parts[0]), vcvt_f16_f32(parts[1]));
  return (Halves)vreinterpretq_u16_f16(halves);
}

inline Floats widened(Halves halves) {
  const float16x8_t both = vreinterpretq_f16_u16((uint16x8_t)halves);
  const float32x4_t parts[2] = {vcvt_f32_f16(vget_low_f16(both)), vcvt_f32_f16(vget_high_f16(both))};
  Floats value;
  __builtin_memcpy(&value, parts, sizeof value);
  return value;
}

#else

// By integers: the bits of a half, shifted by 13, are those of a float 2^112 times smaller. The sum
// with 0.5 rounds subnormal halves, because its last bit is worth 2^-24, as theirs is.
inline Halves narrowed(Floats value) {
  const Integers bits = (Integers)value, size = bits & 0x7fffffff;
  const Integers normal = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
  const Integers subnormal = (Integers)((Floats)size + 0.5f) - 0x3f000000;
  const Integers half = (Floats)size < splat(6.103515625e-5f) ? subnormal : normal;
  return __builtin_convertvector(half | (bits >> 16 & 0x8000), Halves);
}

inline Floats widened(Halves halves) {
  const Integers bits = __builtin_convertvector(halves, Integers);
  const Floats size = (Floats)((bits & 0x7fff) << 13) * 5.192296858534828e33f;  // 2^112
  return (Floats)((Integers)size | (bits & 0x8000) << 16);
}

#endif

inline void narrow_some(const float* x, size_t count, uint16_t* halves) {
  Floats value = splat(0.0f);
  __builtin_memcpy(&value, x, count * sizeof *x);
  value = lesser_of(greater_of(value, splat(-kLargestHalf)), splat(kLargestHalf));
  const Halves some = narrowed(value);
  __builtin_memcpy(halves, &some, count * sizeof *halves);
}

inline void narrow(const float* x, size_t count, uint16_t* halves) {
  const size_t whole = count / 8 * 8;
  for (size_t i = 0; i < whole; i += 8) narrow_some(x + i, 8, halves + i);
  if (whole < count) narrow_some(x + whole, count - whole, halves + whole);
}

inline void widen_some(const uint16_t* halves, size_t count, float* x) {
  Halves some = {};
  __builtin_memcpy(&some, halves, count * sizeof *halves);
  const Floats value = widened(some);
  __builtin_memcpy(x, &value, count * sizeof *x);
}

inline void widen(const uint16_t* halves, size_t count, float* x) {
  const size_t whole = count / 8 * 8;
  for (size_t i = 0; i < whole; i += 8) widen_some(halves + i, 8, x + i);
  if (whole < count) widen_some(halves + whole, count - whole, x + whole);
}
