// Shared by the int8 products of 128-bit registers: four outputs (a part of a group) times eight
// lanes at a time. Included after lanes.h, in the anonymous namespace of a kind of processor.

// Writes one output of eight lanes from its integer sums.
inline void finish_lanes(const Product& p, size_t output, size_t lane, const int32_t* sums) {
  Integers whole;
  __builtin_memcpy(&whole, sums, sizeof whole);
  const Floats scale = load(p.frame_scale + lane) * p.matrix->scale[output];
  const Floats value = __builtin_convertvector(whole, Floats) * scale + p.matrix->bias[output];
  finish(p, p.y + output * p.y_stride + lane, value);
}

// Calls tile(group, part) for every part of the matrix.
template <typename Tile>
inline void for_parts(const Matrix& m, Tile tile) {
  for (size_t group = 0; group < m.groups(); ++group) {
    for (size_t part = 0; part < m.group / 4; ++part) tile(group, part);
  }
}
