// Greedy search: emits the best symbol of a frame until it is blank or three were emitted. A block
// of frames is scored at once under the same prediction, which changes only with a token
// (label looping: Bataev et al., 2024).
#include <algorithm>

#include "search.h"
#include "searches.h"

namespace dualmode {
namespace {

constexpr size_t kMaxSymbols = 3;

uint32_t best_symbol(const float* logits, size_t vocabulary, size_t lane) {
  uint32_t best = 0;
  for (uint32_t v = 1; v < vocabulary; ++v) {
    if (logits[v * kLanes + lane] > logits[best * kLanes + lane]) best = v;
  }
  return best;
}

class Greedy : public Search {
 public:
  explicit Greedy(const Settings& settings) : context_(settings.context_tokens, kBlank) {}

  void advance(Scorer& scorer, const float* frames, size_t stride, size_t count) override {
    if (prediction_.empty()) scorer.predict({context_}, prediction_);
    size_t at = 0, symbols = 0;
    while (at < count) {
      const float* logits = scorer.score_frames(frames + at, stride, prediction_.data(), kLanes);
      const size_t block = std::min(kLanes, count - at);
      size_t skip = 0;
      uint32_t symbol = kBlank;
      for (; skip < block; ++skip) {
        symbol = best_symbol(logits, scorer.settings().vocabulary, skip);
        if (symbol != kBlank) break;
      }
      if (skip > 0) symbols = 0;
      at += skip;
      if (symbol == kBlank) continue;
      const float log_prob = logits[symbol * kLanes + skip] - scorer.log_total(skip);
      tokens_.push_back({symbol, frames_ + static_cast<int64_t>(at), log_prob});
      std::rotate(context_.begin(), context_.begin() + 1, context_.end());
      context_.back() = symbol;
      scorer.predict({context_}, prediction_);
      if (++symbols == kMaxSymbols) {
        ++at;
        symbols = 0;
      }
    }
    frames_ += static_cast<int64_t>(count);
  }

  const std::vector<Token>& best() const override { return tokens_; }
  size_t stable() const override { return tokens_.size(); }
  void commit(size_t tokens) override {
    tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(tokens));
  }

  void reset() override {
    std::fill(context_.begin(), context_.end(), kBlank);
    prediction_.clear();
    tokens_.clear();
    frames_ = 0;
  }

 private:
  std::vector<uint32_t> context_;
  std::vector<float> prediction_;
  std::vector<Token> tokens_;
  int64_t frames_ = 0;
};

}  // namespace

std::unique_ptr<Search> make_greedy(const Settings& settings) {
  return std::make_unique<Greedy>(settings);
}

std::unique_ptr<Search> make_search(const Settings& settings, uint32_t width) {
  return width <= 1 ? make_greedy(settings) : make_beam(settings, width);
}

}  // namespace dualmode
