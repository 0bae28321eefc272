#include "encoder.h"

#include <algorithm>
#include <cmath>

#include "bytes.h"
#include "subsampling.h"

namespace dualmode {
namespace {

// Data shared by all layers of a run.
struct Run {
  const Model& model;
  const std::vector<Window>& windows;
  size_t frames, centre;
  size_t padded;  // lanes of a window
  size_t lanes;   // of all windows
  Workspace& w;
};

// Cosines and sines (half a head, lanes) of each lane's absolute position; angles in double, so
// that they are exact after hours of a stream.
void lay_out_rotations(const Run& run) {
  const size_t half = run.model.settings.head_width() / 2;
  run.w.cosines.resize(half * run.lanes);
  run.w.sines.resize(half * run.lanes);
  for (size_t i = 0; i < half; ++i) {
    const double turn = run.model.turns[i];
    const double step_cos = run.model.turn_cosines[i], step_sin = run.model.turn_sines[i];
    for (size_t window = 0; window < run.windows.size(); ++window) {
      const EncoderState* state = run.windows[window].state;
      const double start = state == nullptr ? 0.0 : static_cast<double>(state->processed) * turn;
      double cosine = std::cos(start), sine = std::sin(start);
      for (size_t t = 0; t < run.padded; ++t) {
        const size_t at = i * run.lanes + window * run.padded + t;
        run.w.cosines[at] = static_cast<float>(cosine);
        run.w.sines[at] = static_cast<float>(sine);
        const double next = cosine * step_cos - sine * step_sin;
        sine = sine * step_cos + cosine * step_sin;
        cosine = next;
      }
    }
  }
}

using Plane = std::vector<float>;  // (D, lanes)

void normalise(const Run& run, const Norm& norm) {
  run.model.kernels.norm(run.w.x.data(), run.model.settings.width, run.lanes, run.lanes,
                         norm.gain.data(), norm.bias.data(), run.w.normed.data());
}

// A product over all lanes of a run.
void multiply(const Run& run, const Matrix& matrix, const Plane& x, Plane& y, Finish finish,
              float factor = 1.0f) {
  const size_t window = run.padded - run.frames >= 4 ? run.padded : 0;
  apply(run.model.kernels, matrix, x.data(), run.lanes, run.lanes, y.data(), run.lanes, finish,
        factor, run.w, window);
}

void feed_forward(const Run& run, const Norm& norm, const Matrix& expand, const Matrix& contract) {
  Workspace& w = run.w;
  normalise(run, norm);
  multiply(run, expand, w.normed, w.hidden, Finish::kSilu);
  multiply(run, contract, w.hidden, w.x, Finish::kAdd, 0.5f);
}

// Frame t of a window as rows of D: keys, then values.
float* row_of(const Run& run, size_t t, size_t which) {
  return &run.w.rows[(t * 2 + which) * run.model.settings.width];
}

// Keys and values (D, lanes) of one window, frame by frame.
void turn_rows(const Run& run, size_t window) {
  const size_t width = run.model.settings.width;
  for (size_t which = 0; which < 2; ++which) {
    const float* from = &run.w.projected[(1 + which) * width * run.lanes + window * run.padded];
    for (size_t d = 0; d < width; ++d) {
      for (size_t t = 0; t < run.frames; ++t) row_of(run, t, which)[d] = from[d * run.lanes + t];
    }
  }
}

// The first `count` rows of a ring, widened into `room` if they are halves.
const float* rows_of(const Run& run, const Ring& ring, size_t count, std::vector<float>& room) {
  if (!run.model.half_state) return ring.floats.data();
  room.resize(ring.halves.size());
  run.model.kernels.widen(ring.halves.data(), count * run.model.settings.width, room.data());
  return room.data();
}

void keep_row(const Run& run, const float* row, size_t slot, Ring& ring) {
  const size_t width = run.model.settings.width;
  if (run.model.half_state) {
    run.model.kernels.narrow(row, width, &ring.halves[slot * width]);
  } else {
    std::copy_n(row, width, &ring.floats[slot * width]);
  }
}

void attend_window(const Run& run, size_t window, LayerState* past) {
  const Settings& s = run.model.settings;
  Workspace& w = run.w;
  const Window& own = run.windows[window];
  turn_rows(run, window);
  w.keys.clear();
  w.values.clear();
  const size_t left = s.left, width = s.width;
  if (past != nullptr) {
    const size_t filled = std::min<uint64_t>(left, own.state->processed);
    const float* keys = rows_of(run, past->keys, filled, w.past_keys);
    const float* values = rows_of(run, past->values, filled, w.past_values);
    for (size_t j = 0; j < filled; ++j) {
      w.keys.push_back(keys + j * width);
      w.values.push_back(values + j * width);
    }
  }
  for (size_t t = 0; t < own.valid; ++t) {
    w.keys.push_back(row_of(run, t, 0));
    w.values.push_back(row_of(run, t, 1));
  }
  w.scores.resize(w.keys.size() * 24);
  for (size_t head = 0; head < s.heads; ++head) {
    const size_t offset = head * s.head_width();
    run.model.kernels.attend({&w.projected[offset * run.lanes + window * run.padded], run.lanes,
                              run.padded, s.head_width(), w.keys.data(), w.values.data(),
                              w.keys.size(), offset, w.scores.data(),
                              &w.attended[offset * run.lanes + window * run.padded], run.lanes});
  }
  if (past == nullptr || left == 0) return;
  for (size_t t = run.centre - std::min(run.centre, left); t < run.centre; ++t) {
    const size_t slot = (own.state->processed + t) % left;
    keep_row(run, row_of(run, t, 0), slot, past->keys);
    keep_row(run, row_of(run, t, 1), slot, past->values);
  }
}

void attention(const Run& run, const LayerWeights& layer, size_t number) {
  const Settings& s = run.model.settings;
  const Kernels& k = run.model.kernels;
  Workspace& w = run.w;
  normalise(run, layer.attention_norm);
  multiply(run, layer.project, w.normed, w.projected, Finish::kStore);
  for (size_t head = 0; head < 2 * s.heads; ++head) {  // queries and keys
    k.rotate(&w.projected[head * s.head_width() * run.lanes], s.head_width() / 2, run.lanes,
             run.lanes, w.cosines.data(), w.sines.data());
  }
  for (size_t window = 0; window < run.windows.size(); ++window) {
    EncoderState* state = run.windows[window].state;
    attend_window(run, window, state == nullptr ? nullptr : &state->layers[number]);
  }
  multiply(run, layer.attention_out, w.attended, w.x, Finish::kAdd);
}

// The depthwise convolution's input of one window: `reach` frames of the past, the window, zeros.
void convolve_window(const Run& run, const LayerWeights& layer, size_t window, LayerState* past) {
  const Settings& s = run.model.settings;
  Workspace& w = run.w;
  const size_t reach = s.reach(), stride = reach + run.padded + reach + kLanes;
  w.gated.resize(s.width * stride);
  const size_t lane = window * run.padded;
  run.model.kernels.gate(&w.projected[lane], s.width, run.lanes, run.padded, &w.gated[reach],
                         stride);
  for (size_t d = 0; d < s.width; ++d) {
    float* row = &w.gated[d * stride];
    std::fill(row + reach + run.windows[window].valid, row + stride, 0.0f);
    if (past == nullptr) {
      std::fill_n(row, reach, 0.0f);
      continue;
    }
    float* kept = past->convolution.data() + d * reach;
    std::copy_n(kept, reach, row);
    std::copy_n(row + run.centre, reach, kept);
  }
  run.model.kernels.depthwise(w.gated.data(), s.width, stride, run.padded, layer.depthwise.data(),
                              s.kernel_frames, layer.depthwise_bias.data(), &w.mixed[lane],
                              run.lanes);
}

void convolution(const Run& run, const LayerWeights& layer, size_t number) {
  Workspace& w = run.w;
  normalise(run, layer.convolution_norm);
  multiply(run, layer.gate, w.normed, w.projected, Finish::kStore);
  for (size_t window = 0; window < run.windows.size(); ++window) {
    EncoderState* state = run.windows[window].state;
    convolve_window(run, layer, window, state == nullptr ? nullptr : &state->layers[number]);
  }
  multiply(run, layer.convolution_out, w.mixed, w.x, Finish::kAdd);
}

// Latents of a window in its lanes: the look-ahead of the previous window, and new ones.
void fill_window(const Run& run, size_t window) {
  const Window& own = run.windows[window];
  Workspace& w = run.w;
  const size_t lane = window * run.padded, width = run.model.settings.width;
  const size_t ahead = run.frames - run.centre;
  const size_t known = run.frames - own.fresh;
  if (known > 0) {
    for (size_t d = 0; d < width; ++d) {
      std::copy_n(own.state->latents.data() + d * ahead, ahead, &w.x[d * run.lanes + lane]);
    }
  }
  subsample(run.model, own.mels, own.mel_rows, own.fresh, own.state, w.x.data(), run.lanes,
            lane + known, w);
  if (own.state == nullptr) return;
  for (size_t d = 0; d < width; ++d) {
    std::copy_n(&w.x[d * run.lanes + lane + run.centre], ahead, own.state->latents.data() + d * ahead);
  }
}

}  // namespace

EncoderState::EncoderState(const Model& model) : layers(model.settings.layers) {
  const Settings& s = model.settings;
  for (LayerState& layer : layers) {
    for (Ring* ring : {&layer.keys, &layer.values}) {
      const size_t count = size_t{s.left} * s.width;
      if (model.half_state) ring->halves.resize(count); else ring->floats.resize(count);
    }
    layer.convolution.resize(size_t{s.reach()} * s.width);
  }
  latents.resize(size_t{s.lookahead} * s.width);
  early.resize(s.early_values());
}

size_t state_bytes(const Settings& s, bool half_state) {
  const size_t left = 2 * size_t{s.left} * (half_state ? sizeof(uint16_t) : sizeof(float));
  const size_t exact = (size_t{s.layers} * s.reach() + s.lookahead) * sizeof(float);
  return s.width * (s.layers * left + exact) + s.early_values() * sizeof(float);
}

void EncoderState::reset() {
  processed = 0;
  for (LayerState& layer : layers) {
    std::fill(layer.convolution.begin(), layer.convolution.end(), 0.0f);
  }
}

void apply(const Kernels& kernels, const Matrix& matrix, const float* x, size_t stride,
           size_t lanes, float* y, size_t y_stride, Finish finish, float factor, Workspace& w,
           size_t window) {
  if (!matrix.int8()) {
    kernels.product_fp32({&matrix, x, stride, lanes, nullptr, y, y_stride, finish, factor, window});
    return;
  }
  w.quantized.resize(matrix.inputs * stride * kernels.activation_bytes + kSlackBytes);
  w.frame_scale.resize(lanes);
  kernels.quantize(x, matrix.inputs, stride, lanes, w.quantized.data(), w.frame_scale.data());
  kernels.product_int8({&matrix, w.quantized.data(), stride, lanes, w.frame_scale.data(), y,
                        y_stride, finish, factor, window});
}

void run_windows(const Model& model, const std::vector<Window>& windows, size_t frames,
                 size_t centre, Workspace& w) {
  const Settings& s = model.settings;
  const size_t padded = round_up(frames, kLanes);
  const Run run{model, windows, frames, centre, padded, padded * windows.size(), w};
  w.x.assign(s.width * run.lanes, 0.0f);
  w.normed.resize(s.width * run.lanes);
  w.hidden.resize(std::max(s.feed_forward, s.width) * run.lanes);
  w.projected.resize(3 * s.width * run.lanes);
  w.attended.resize(s.width * run.lanes);
  w.mixed.resize(s.width * run.lanes);
  w.rows.resize(2 * s.width * frames);
  lay_out_rotations(run);
  for (size_t window = 0; window < windows.size(); ++window) fill_window(run, window);
  for (size_t number = 0; number < model.layers.size(); ++number) {
    const LayerWeights& layer = model.layers[number];
    feed_forward(run, layer.first_norm, layer.first_expand, layer.first_contract);
    attention(run, layer, number);
    convolution(run, layer, number);
    feed_forward(run, layer.second_norm, layer.second_expand, layer.second_contract);
  }
  normalise(run, model.final_norm);
  w.frames.resize(s.joiner_width * run.lanes + kLanes);  // searches read a block beyond the end
  w.stride = run.lanes;
  multiply(run, model.from_frames, w.normed, w.frames, Finish::kStore);
  for (const Window& window : windows) {
    if (window.state != nullptr) window.state->processed += centre;
  }
}

}  // namespace dualmode
