// The encoder over windows of frames: a step of a stream, of many streams, or a whole utterance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model.h"

namespace dualmode {

// Rotated keys or values of the last centre frames, a ring of L rows of D: floats or, with
// Model::half_state, halves.
struct Ring {
  std::vector<float> floats;
  std::vector<uint16_t> halves;
};

// A layer's past: left context, and the last inputs (D, reach) of the depthwise convolution.
struct LayerState {
  Ring keys, values;
  std::vector<float> convolution;
};

struct EncoderState {
  explicit EncoderState(const Model& model);
  void reset();

  std::vector<LayerState> layers;
  uint64_t processed = 0;       // centre frames processed so far
  std::vector<float> latents;   // (D, R): look-ahead frames shared with the next window
  std::vector<float> early;     // with a third convolution: its input that windows share
};

// Memory of a stream's state.
size_t state_bytes(const Settings& settings, bool half_state);

// Scratch memory of a run; it grows to the size of the largest run.
struct Workspace {
  std::vector<float> planes, subsampled, x, normed, hidden, projected, gated, attended, mixed;
  std::vector<float> frames;  // (J, stride): output of the last run
  std::vector<float> cosines, sines, scores, rows, frame_scale, convolved, mels;
  std::vector<float> past_keys, past_values;  // halves of one layer, widened
  std::vector<uint8_t> quantized;
  std::vector<const float*> keys, values;
  size_t stride = 0;  // lanes of `frames`
};

// One window to run.
struct Window {
  EncoderState* state;  // null for full context
  const float* mels;    // rows of 80, from the first frame whose latents are not in the state
  size_t mel_rows;      // rows that exist; rows beyond them count as zeros
  size_t fresh;         // frames whose latents are not in the state: all, or the last `centre`
  size_t valid;         // frames of the window that exist
};

// Run windows of `frames` frames as a batch and output the first `centre` frames of each: frame t
// of window w is lane w * padded + t of workspace.frames, where padded is round_up(frames, 8).
void run_windows(const Model& model, const std::vector<Window>& windows, size_t frames,
                 size_t centre, Workspace& workspace);

// y = finish(matrix(x)) over lanes, quantising x if the matrix is int8; `window` as in Product.
void apply(const Kernels& kernels, const Matrix& matrix, const float* x, size_t stride,
           size_t lanes, float* y, size_t y_stride, Finish finish, float factor, Workspace& w,
           size_t window = 0);

}  // namespace dualmode
