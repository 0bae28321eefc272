#include "subsampling.h"

#include <algorithm>

#include "bytes.h"

namespace dualmode {
namespace {

constexpr size_t kMelReach = 7;  // after two convolutions, frame t reads mel frames 4t .. 4t + 6
constexpr size_t kFirstBins = (kMels - 3) / 2 + 1;

// planes[r][bin][t] = normalised mel frame 4t + r of `count` frames, zero beyond them.
void lay_out_mels(const Model& model, const float* mels, size_t mel_rows, size_t count,
                  size_t stride, std::vector<float>& planes) {
  planes.assign(kMelReach * kMels * stride, 0.0f);
  for (size_t t = 0; t < count; ++t) {
    for (size_t r = 0; r < kMelReach; ++r) {
      const size_t row = 4 * t + r;
      for (size_t bin = 0; bin < kMels; ++bin) {
        const float value = row < mel_rows ? mels[row * kMels + bin] : 0.0f;
        planes[(r * kMels + bin) * stride + t] =
            (value - model.mean[bin]) * model.inverse_deviation[bin];
      }
    }
  }
}

// The first convolution at the three times that each frame of the second reads, as three planes of
// rows (time, channel, bin), from w.mels to w.planes.
void convolve_mels(const Model& model, size_t lanes, Workspace& w) {
  const size_t channels = model.settings.subsampling_channels;
  w.planes.resize(3 * channels * kFirstBins * lanes);
  for (size_t time = 0; time < 3; ++time) {
    for (size_t bin = 0; bin < kFirstBins; ++bin) {
      const float* taps[9];
      for (size_t k = 0; k < 9; ++k) {
        taps[k] = &w.mels[((2 * time + k / 3) * kMels + 2 * bin + k % 3) * lanes];
      }
      model.kernels.convolve9(taps, channels, lanes, model.first_convolution.data(),
                              model.first_convolution_bias.data(),
                              &w.planes[(time * channels * kFirstBins + bin) * lanes],
                              kFirstBins * lanes);
    }
  }
}

// Another convolution, from planes of `bins` bins in w.planes to rows (channel, bin) in
// w.subsampled, for `count` frames. A column of its matrix is a row of the planes, shifted by two
// rows per bin of output. Returns the number of bins.
size_t convolve(const Model& model, const Matrix& matrix, size_t bins, size_t count,
                Workspace& w) {
  const Kernels& kernels = model.kernels;
  const size_t channels = model.settings.subsampling_channels;
  const size_t rows = 3 * channels * bins, output_bins = (bins - 3) / 2 + 1;
  const size_t lanes = round_up(count, kLanes), window = lanes - count >= 4 ? lanes : 0;
  const bool int8 = matrix.int8();
  const size_t value_bytes = int8 ? kernels.activation_bytes : sizeof(float);
  const uint8_t* source = reinterpret_cast<const uint8_t*>(w.planes.data());
  if (int8) {
    w.quantized.resize(rows * lanes * value_bytes + kSlackBytes);
    w.frame_scale.resize(lanes);
    kernels.quantize(w.planes.data(), rows, lanes, lanes, w.quantized.data(),
                     w.frame_scale.data());
    source = w.quantized.data();
  }
  w.subsampled.resize(channels * output_bins * lanes);
  for (size_t bin = 0; bin < output_bins; ++bin) {
    const Product product{&matrix, source + 2 * bin * lanes * value_bytes,
                          lanes,   lanes,
                          w.frame_scale.data(), &w.subsampled[bin * lanes],
                          output_bins * lanes,  Finish::kRelu,
                          1.0f,    window};
    (int8 ? kernels.product_int8 : kernels.product_fp32)(product);
  }
  return output_bins;
}

// Planes of `count` frames of 80 ms, each of which reads three frames of 40 ms: frame t of plane
// `time` is frame 2t + time. The first `kept` (0 or 1) are in `shared`, the others in w.subsampled,
// which has `early_lanes` lanes.
void lay_out_pairs(const float* shared, size_t kept, size_t rows, size_t early_lanes, size_t count,
                   size_t lanes, Workspace& w) {
  w.planes.assign(3 * rows * lanes, 0.0f);
  for (size_t time = 0; time < 3; ++time) {
    for (size_t row = 0; row < rows; ++row) {
      const float* from = &w.subsampled[row * early_lanes];
      float* to = &w.planes[(time * rows + row) * lanes];
      for (size_t t = 0; t < count; ++t) {
        const size_t early = 2 * t + time;
        to[t] = early < kept ? shared[row] : from[early - kept];
      }
    }
  }
}

}  // namespace

// Lanes are frames: of 40 ms up to the second convolution, of the model afterwards.
void subsample(const Model& model, const float* mels, size_t mel_rows, size_t count,
               EncoderState* state, float* x, size_t stride, size_t first, Workspace& w) {
  const Settings& s = model.settings;
  const bool third = s.frame_ms == 80;
  const size_t kept = third && state != nullptr && state->processed > 0 ? 1 : 0;
  const size_t early = third ? 2 * count + 1 - kept : count;
  const size_t early_lanes = round_up(early, kLanes), lanes = round_up(count, kLanes);
  const size_t skipped = std::min(mel_rows, 4 * kept);
  lay_out_mels(model, mels + skipped * kMels, mel_rows - skipped, early, early_lanes, w.mels);
  convolve_mels(model, early_lanes, w);
  const size_t bins = convolve(model, model.second_convolution, kFirstBins, early, w);
  if (third) {
    const size_t rows = s.early_values();
    lay_out_pairs(kept ? state->early.data() : nullptr, kept, rows, early_lanes, count, lanes, w);
    for (size_t row = 0; state != nullptr && row < rows; ++row) {
      state->early[row] = w.subsampled[row * early_lanes + early - 1];
    }
    convolve(model, model.third_convolution, bins, count, w);
  }
  w.convolved.resize(s.width * lanes);
  apply(model.kernels, model.subsampling_out, w.subsampled.data(), lanes, lanes,
        w.convolved.data(), lanes, Finish::kStore, 1.0f, w);
  for (size_t r = 0; r < s.width; ++r) {
    std::copy_n(&w.convolved[r * lanes], count, x + r * stride + first);
  }
}

}  // namespace dualmode
