// Full context: whole recordings, divided at quiet places to limit memory.
#include <algorithm>
#include <cmath>

#include "session.h"

namespace dualmode {
namespace {

constexpr size_t kFrameSamples = 640;
constexpr size_t kQuietFrames = 5;  // a cut is in the middle of the quietest 200 ms

// Position of the cut: a multiple of kFrameSamples in the second half of `count` samples.
size_t quietest(const float* samples, size_t count) {
  const size_t first = count / 2 / kFrameSamples, frames = count / kFrameSamples - first;
  std::vector<double> energy(frames);
  for (size_t f = 0; f < frames; ++f) {
    const float* at = samples + (first + f) * kFrameSamples;
    for (size_t i = 0; i < kFrameSamples; ++i) {
      energy[f] += static_cast<double>(at[i]) * static_cast<double>(at[i]);
    }
  }
  size_t best = 0;
  double least = INFINITY;
  for (size_t f = 0; f + kQuietFrames <= frames; ++f) {
    double around = 0.0;
    for (size_t i = 0; i < kQuietFrames; ++i) around += energy[f + i];
    if (around < least) {
      least = around;
      best = f;
    }
  }
  return (first + best + (kQuietFrames + 1) / 2) * kFrameSamples;
}

// Tokens of one piece that begins at frame `start`.
void recognize_piece(const Model& model, const dualmode_options& options, const float* samples,
                     size_t count, int64_t start, Workspace& workspace,
                     std::vector<Token>& tokens) {
  OnlineFeatures features(&model.features);
  std::vector<float> mels;
  features.push(samples, count, mels);
  features.finish(mels);
  const size_t rows = mels.size() / kMels;
  const size_t frames = rows < 3 ? 0 : (rows - 3) / 4;
  if (frames == 0) return;
  run_windows(model, {{nullptr, mels.data(), rows, frames, frames}}, frames, frames, workspace);
  Scorer scorer(model, workspace, model.settings.blank_penalty);
  const auto search = make_search(model.settings, options.beam_width);
  search->advance(scorer, workspace.frames.data(), workspace.stride, frames);
  for (Token token : search->best()) {
    token.frame += start;
    tokens.push_back(token);
  }
}

}  // namespace

Transcript transcribe_whole(const Model& model, const dualmode_options& options,
                            const float* samples, size_t count) {
  check_finite(samples, count);
  const auto longest = static_cast<size_t>(model.settings.longest_piece_s * 16000.0f) /
                       kFrameSamples * kFrameSamples;
  Workspace workspace;
  std::vector<Token> tokens;
  for (size_t at = 0, end; at < count; at = end) {
    end = count - at > longest ? at + quietest(samples + at, longest) : count;
    recognize_piece(model, options, samples + at, end - at,
                    static_cast<int64_t>(at / kFrameSamples), workspace, tokens);
  }
  return transcript_of(model, tokens, static_cast<double>(count) / 16000.0);
}

}  // namespace dualmode
