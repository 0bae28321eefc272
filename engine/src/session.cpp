#include "session.h"

#include <algorithm>
#include <cmath>

#include "bytes.h"
#include "error.h"

namespace dualmode {
namespace {

constexpr double kSampleRateHz = 16000.0;

}  // namespace

void check_finite(const float* samples, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(samples[i])) {
      throw Error(DUALMODE_BAD_SAMPLES,
                  "samples contain NaN or infinity: check their source");
    }
  }
}

void check_options(const dualmode_options& options) {
  const auto require = [](bool fulfilled, const char* what) {
    if (!fulfilled) throw Error(DUALMODE_INVALID_ARGUMENT, what);
  };
  require(options.beam_width >= 1 && options.beam_width <= kLanes, "beam_width must be 1 to 8");
  require(options.silence_s > 0 && options.longest_s > 0,
          "silence_s and longest_s must be greater than 0");
  require(options.tail_s >= 0 && options.tail_s <= 10, "tail_s must be 0 to 10");
}

Session::Session(std::shared_ptr<const Model> model, const dualmode_options& options)
    : model_(std::move(model)),
      options_(options),
      features_(&model_->features),
      state_(*model_),
      scorer_(*model_, workspace_, model_->settings.blank_penalty),
      search_(make_search(model_->settings, options.beam_width)) {
  if (model_->settings.streams == 0) {
    throw Error(DUALMODE_UNSUPPORTED,
                "this model has full context, which cannot stream: transcribe whole recordings, "
                "or export the device recogniser");
  }
}

void Session::check(const float* samples, size_t count) const {
  if (!open_) throw Error(DUALMODE_FINISHED, "the stream is finished: reset it or open another");
  check_finite(samples, count);
}

void Session::add_samples(const float* samples, size_t count) {
  samples_ += count;
  features_.push(samples, count, mels_);
}

// Number of frames that are not decoded yet.
size_t Session::pending_frames() const {
  return known_ + model_->settings.frames(mels_.size() / kMels);
}

// Whether a window can run: it is complete or, at the end, has at least one frame.
bool Session::ready(bool ended) const {
  return pending_frames() >= (ended ? 1 : model_->settings.window());
}

Window Session::next_window() {
  const Settings& s = model_->settings;
  const size_t fresh = state_.processed == 0 ? s.window() : s.chunk;
  return {&state_, mels_.data(), mels_.size() / kMels, fresh,
          std::min<size_t>(s.window(), pending_frames())};
}

bool Session::run(bool ended) {
  bool advanced = false;
  const Settings& s = model_->settings;
  while (ready(ended)) {
    const Window window = next_window();
    run_windows(*model_, {window}, s.window(), s.chunk, workspace_);
    take(workspace_.frames.data(), workspace_.stride, window);
    advanced = true;
  }
  return advanced;
}

// Decode the real centre frames of a window, and drop the mel frames that are not needed again.
void Session::take(const float* frames, size_t stride, const Window& window) {
  const Settings& s = model_->settings;
  const size_t count = std::min<size_t>(window.valid, s.chunk);
  const size_t used = std::min(window.mel_rows, s.stride_mels() * window.fresh);
  mels_.erase(mels_.begin(), mels_.begin() + static_cast<std::ptrdiff_t>(used * kMels));
  known_ = std::min<size_t>(s.lookahead, window.valid - count);
  search_->advance(scorer_, frames, stride, count);
  frames_ += static_cast<int64_t>(count);
  // After the end of the stream, the rest belongs to the final transcript.
  if (open_) end_segment_if_due();
}

bool Session::push(const float* samples, size_t count) {
  check(samples, count);
  // In pieces, to limit memory when a lot of audio is pushed at once.
  constexpr size_t kPiece = 16000;
  bool advanced = false;
  for (size_t at = 0; at < count; at += kPiece) {
    add_samples(samples + at, std::min(kPiece, count - at));
    advanced = run(false) || advanced;
  }
  return advanced && text_changed();
}

// Whether the text differs from that of the last call, or a segment has ended since.
bool Session::text_changed() {
  std::vector<Word> words = words_of(*model_, search_->best());
  const bool changed = segment_ended_ || !(words == shown_);
  shown_ = std::move(words);
  segment_ended_ = false;
  return changed;
}

size_t Session::missing() const {
  const Settings& s = model_->settings;
  const size_t rows = s.stride_mels() * (s.window() - known_) + s.overlap_mels();
  const size_t have = mels_.size() / kMels;
  return features_.missing(rows - std::min(rows, have));
}

std::vector<bool> Session::push_all(const std::vector<Session*>& sessions,
                                    const float* const* samples, const size_t* counts) {
  std::vector<bool> advanced(sessions.size());
  if (sessions.empty()) return advanced;
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->check(samples[i], counts[i]);
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->add_samples(samples[i], counts[i]);
  const Model& model = *sessions[0]->model_;
  const size_t frames = model.settings.window(), padded = round_up(frames, kLanes);
  Workspace& workspace = sessions[0]->workspace_;
  for (;;) {
    std::vector<Window> windows;
    std::vector<size_t> running;
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (!sessions[i]->ready(false)) continue;
      windows.push_back(sessions[i]->next_window());
      running.push_back(i);
      advanced[i] = true;
    }
    if (running.empty()) break;
    run_windows(model, windows, frames, model.settings.chunk, workspace);
    for (size_t i = 0; i < running.size(); ++i) {
      sessions[running[i]]->take(workspace.frames.data() + i * padded, workspace.stride,
                                 windows[i]);
    }
  }
  for (size_t i = 0; i < sessions.size(); ++i) {
    if (advanced[i]) advanced[i] = sessions[i]->text_changed();
  }
  return advanced;
}

Transcript Session::finish() {
  check(nullptr, 0);
  open_ = false;
  const uint64_t samples = samples_;
  const std::vector<float> silence(static_cast<size_t>(std::lround(options_.tail_s * kSampleRateHz)));
  add_samples(silence.data(), silence.size());
  run(false);
  features_.finish(mels_);
  run(false);
  run(true);
  samples_ = samples;
  std::vector<Token> tokens = finished_;
  tokens.insert(tokens.end(), search_->best().begin(), search_->best().end());
  return transcript_of(*model_, tokens, static_cast<double>(samples_) / kSampleRateHz);
}

void Session::reset() {
  features_.reset();
  state_.reset();
  search_->reset();
  segments.clear();
  mels_.clear();
  known_ = 0;
  finished_.clear();
  shown_.clear();
  samples_ = 0;
  frames_ = segment_start_ = 0;
  segment_ended_ = false;
  open_ = true;
}

Transcript Session::partial() const {
  Transcript transcript;
  transcript.words = words_of(*model_, search_->best());
  transcript.seconds = static_cast<double>(frames_) * model_->settings.frame_s();
  const size_t settled = search_->stable();
  for (const Word& word : transcript.words) transcript.stable += word.end < settled;
  return transcript;
}

void Session::end_segment_if_due() {
  if (!options_.endpointing) return;
  const std::vector<Token>& tokens = search_->best();
  const int64_t silent_from = tokens.empty() ? frames_ : tokens.back().frame + 1;
  if (static_cast<double>(frames_ - silent_from) * model_->settings.frame_s() >= options_.silence_s) {
    cut(tokens.size());
    return;
  }
  if (static_cast<double>(frames_ - segment_start_) * model_->settings.frame_s() < options_.longest_s) return;
  size_t last_word = 0;  // may be incomplete, so it begins the next segment
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (model_->word_starts[tokens[i].id]) last_word = i;
  }
  cut(last_word);
}

void Session::cut(size_t count) {
  segment_start_ = frames_;
  const auto begin = search_->best().begin();
  const std::vector<Token> tokens(begin, begin + static_cast<std::ptrdiff_t>(count));
  search_->commit(count);
  if (options_.keep_finished) finished_.insert(finished_.end(), tokens.begin(), tokens.end());
  if (tokens.empty()) return;
  const double seconds = static_cast<double>(frames_) * model_->settings.frame_s();
  segments.push_back(transcript_of(*model_, tokens, seconds));
  segment_ended_ = true;
}

}  // namespace dualmode
