// Modified beam search: a frame emits at most one symbol (Kang et al., arXiv 2211.00484), and the
// probability of a token sequence is the sum over its alignments in the beam.
#include <algorithm>
#include <cmath>

#include "searches.h"

namespace dualmode {
namespace {

constexpr uint64_t kHashFactor = 6364136223846793005u;  // Knuth's MMIX multiplier

struct Hypothesis {
  double score = 0.0;
  std::vector<uint32_t> context;
  uint64_t key = 0, parent_key = 0;  // hashes of all tokens, and of all but the last
  std::vector<Token> tokens;
};

struct Candidate {
  double score;
  size_t origin;
  uint32_t symbol;
};

double log_add(double a, double b) {
  const double larger = std::max(a, b);
  return larger + std::log1p(std::exp(std::min(a, b) - larger));
}

class Beam : public Search {
 public:
  Beam(const Settings& settings, uint32_t width)
      : width_(std::min<uint32_t>(width, kLanes)), context_tokens_(settings.context_tokens) {
    reset();
  }

  void advance(Scorer& scorer, const float* frames, size_t stride, size_t count) override {
    if (predictions_.empty()) predict(scorer);
    for (size_t t = 0; t < count; ++t, ++frame_) {
      const float* logits = scorer.score_predictions(frames + t, stride, predictions_.data());
      step(scorer, logits);
    }
  }

  const std::vector<Token>& best() const override { return hypotheses_[0].tokens; }

  size_t stable() const override {
    size_t shared = hypotheses_[0].tokens.size();
    for (const Hypothesis& h : hypotheses_) {
      size_t same = 0;
      while (same < std::min(shared, h.tokens.size()) &&
             h.tokens[same].id == hypotheses_[0].tokens[same].id) {
        ++same;
      }
      shared = same;
    }
    return shared;
  }

  void commit(size_t tokens) override {
    hypotheses_.resize(1);
    Hypothesis& kept = hypotheses_[0];
    kept.score = 0.0;
    kept.tokens.erase(kept.tokens.begin(),
                      kept.tokens.begin() + static_cast<std::ptrdiff_t>(tokens));
    predictions_.clear();
  }

  void reset() override {
    hypotheses_.assign(1, Hypothesis{});
    hypotheses_[0].context.assign(context_tokens_, kBlank);
    predictions_.clear();
    frame_ = 0;
  }

 private:
  void predict(Scorer& scorer) {
    std::vector<std::vector<uint32_t>> contexts;
    for (const Hypothesis& h : hypotheses_) contexts.push_back(h.context);
    scorer.predict(contexts, predictions_);
  }

  void step(Scorer& scorer, const float* logits) {
    const size_t vocabulary = scorer.settings().vocabulary, alive = hypotheses_.size();
    std::vector<double> scores(alive * vocabulary);
    std::vector<float> totals(alive);
    for (size_t k = 0; k < alive; ++k) {
      totals[k] = scorer.log_total(k);
      for (size_t v = 0; v < vocabulary; ++v) {
        scores[k * vocabulary + v] = hypotheses_[k].score + (logits[v * kLanes + k] - totals[k]);
      }
    }
    const std::vector<size_t> joined = merge(scores, vocabulary);
    std::vector<Hypothesis> next;
    bool grown = false;
    for (Candidate c : best_of(scores, vocabulary)) {
      if (c.symbol == kBlank && joined[c.origin] != alive) {
        // A merged hypothesis keeps the history of the more probable one.
        c.symbol = hypotheses_[c.origin].context.back();
        c.origin = joined[c.origin];
      }
      const float log_prob = logits[c.symbol * kLanes + c.origin] - totals[c.origin];
      next.push_back(extended(hypotheses_[c.origin], c, log_prob));
      grown = grown || c.symbol != kBlank || c.origin != next.size() - 1;
    }
    grown = grown || next.size() != alive;
    hypotheses_ = std::move(next);
    if (grown) predict(scorer);
  }

  // Merge "g extended by v" into "h and blank" where both have the same tokens. Returns the g whose
  // extension is more probable than h's own blank, or the number of hypotheses.
  std::vector<size_t> merge(std::vector<double>& scores, size_t vocabulary) const {
    const size_t alive = hypotheses_.size();
    std::vector<size_t> joined(alive, alive);
    const std::vector<double> before = scores;
    for (size_t h = 0; h < alive; ++h) {
      const uint32_t last = hypotheses_[h].context.back();
      if (last == kBlank) continue;
      for (size_t g = 0; g < alive; ++g) {
        if (hypotheses_[h].parent_key != hypotheses_[g].key) continue;
        const double longer = before[g * vocabulary + last], stayed = before[h * vocabulary];
        if (longer > stayed) joined[h] = g;
        scores[h * vocabulary] = log_add(stayed, longer);
        scores[g * vocabulary + last] = -INFINITY;
        break;
      }
    }
    return joined;
  }

  std::vector<Candidate> best_of(const std::vector<double>& scores, size_t vocabulary) const {
    std::vector<Candidate> found;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (scores[i] == -INFINITY) continue;
      if (found.size() == width_ && scores[i] <= found.back().score) continue;
      const Candidate c{scores[i], i / vocabulary, static_cast<uint32_t>(i % vocabulary)};
      const auto at = std::upper_bound(
          found.begin(), found.end(), c,
          [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
      found.insert(at, c);
      if (found.size() > width_) found.pop_back();
    }
    return found;
  }

  Hypothesis extended(const Hypothesis& from, const Candidate& c, float log_prob) const {
    Hypothesis h = from;
    h.score = c.score;
    if (c.symbol == kBlank) return h;
    std::rotate(h.context.begin(), h.context.begin() + 1, h.context.end());
    h.context.back() = c.symbol;
    h.parent_key = from.key;
    h.key = from.key * kHashFactor + c.symbol + 1;
    h.tokens.push_back({c.symbol, frame_, log_prob});
    return h;
  }

  const size_t width_;
  const size_t context_tokens_;
  std::vector<Hypothesis> hypotheses_;
  std::vector<float> predictions_;
  int64_t frame_ = 0;
};

}  // namespace

std::unique_ptr<Search> make_beam(const Settings& settings, uint32_t width) {
  return std::make_unique<Beam>(settings, width);
}

}  // namespace dualmode
