// Full context: whole recordings, divided at quiet places to limit memory.
#include <algorithm>
#include <cmath>

#include "session.h"

namespace dualmode {
namespace {

constexpr size_t kBlockSamples = 640;  // loudness is measured every 40 ms
constexpr size_t kQuietBlocks = 5;     // a cut is in the middle of the quietest 200 ms

// The quietest place in the second half of `count` samples.
size_t quietest(const float* samples, size_t count) {
  const size_t first = count / 2 / kBlockSamples, blocks = count / kBlockSamples - first;
  std::vector<double> energy(blocks);
  for (size_t f = 0; f < blocks; ++f) {
    const float* at = samples + (first + f) * kBlockSamples;
    for (size_t i = 0; i < kBlockSamples; ++i) {
      energy[f] += static_cast<double>(at[i]) * static_cast<double>(at[i]);
    }
  }
  size_t best = 0;
  double least = INFINITY;
  for (size_t f = 0; f + kQuietBlocks <= blocks; ++f) {
    double around = 0.0;
    for (size_t i = 0; i < kQuietBlocks; ++i) around += energy[f + i];
    if (around < least) {
      least = around;
      best = f;
    }
  }
  return (first + best + (kQuietBlocks + 1) / 2) * kBlockSamples;
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
  const size_t frames = model.settings.frames(rows);
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
  const size_t frame = model.settings.frame_samples();
  const auto longest =
      static_cast<size_t>(model.settings.longest_piece_s * 16000.0f) / frame * frame;
  Workspace workspace;
  std::vector<Token> tokens;
  for (size_t at = 0, end; at < count; at = end) {
    end = count - at > longest ? at + quietest(samples + at, longest) / frame * frame : count;
    recognize_piece(model, options, samples + at, end - at,
                    static_cast<int64_t>(at / frame), workspace, tokens);
  }
  return transcript_of(model, tokens, static_cast<double>(count) / 16000.0);
}

}  // namespace dualmode
