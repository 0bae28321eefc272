// The Python module: the engine's C++ parts over numpy arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <set>

#include "bytes.h"
#include "error.h"
#include "mapped_file.h"
#include "session.h"

namespace nb = nanobind;
using dualmode::Error;
using dualmode::kLanes;
using dualmode::kMels;
using dualmode::Model;
using dualmode::Session;
using nb::arg;

namespace {

using Samples = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

Output array_of(std::vector<float> values, size_t rows, size_t columns) {
  auto* held = new std::vector<float>(std::move(values));
  nb::capsule owner(held, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  return Output(held->data(), {rows, columns}, owner);
}

Output mels_of(std::vector<float> values) {
  const size_t rows = values.size() / kMels;
  return array_of(std::move(values), rows, kMels);
}

// (rows, stride) lanes to (count, rows) frames.
std::vector<float> frames_of(const std::vector<float>& lanes, size_t rows, size_t stride,
                             size_t count) {
  std::vector<float> frames(rows * count);
  for (size_t t = 0; t < count; ++t) {
    for (size_t r = 0; r < rows; ++r) frames[t * rows + r] = lanes[r * stride + t];
  }
  return frames;
}

// An open model, for Python.
struct Handle {
  std::shared_ptr<const Model> model;

  explicit Handle(const std::string& path, const std::string& kernels) {
    auto mapping = dualmode::Mapping::open(path);
    const uint8_t* bytes = mapping->bytes();
    const size_t size = mapping->size();
    model = std::make_shared<const Model>(dualmode::Artifact::parse(bytes, size), kernels.c_str(),
                                          std::move(mapping));
  }
};

nb::dict transcript_dict(const dualmode::Transcript& transcript) {
  nb::list words;
  for (const dualmode::Word& w : transcript.words) {
    words.append(nb::make_tuple(w.text, w.start_s, w.end_s, w.confidence));
  }
  nb::dict found;
  found["text"] = transcript.text();
  found["words"] = words;
  found["stable"] = transcript.stable;
  found["seconds"] = transcript.seconds;
  return found;
}

dualmode_options options_of(const Model& model, uint32_t beam_width, bool endpointing,
                            double silence_s, double longest_s, double tail_s,
                            bool keep_finished) {
  if (tail_s < 0) tail_s = static_cast<double>(model.settings.tail_s);
  const dualmode_options options{beam_width, endpointing, silence_s, longest_s, tail_s,
                                 keep_finished};
  dualmode::check_options(options);
  return options;
}

nb::dict describe(const Handle& self) {
  const dualmode::Settings& s = self.model->settings;
  nb::dict d;
  d["card"] = self.model->artifact.card;
  d["kernels"] = self.model->kernels.name;
  d["artifact_bytes"] = self.model->artifact.size;
  d["state_bytes"] = dualmode::state_bytes(s, self.model->half_state);
  d["streams"] = s.streams != 0;
  d["chunk_frames"] = s.chunk;
  d["left_frames"] = s.left;
  d["lookahead_frames"] = s.lookahead;
  d["frame_ms"] = s.frame_ms;
  d["width"] = s.width;
  d["layers"] = s.layers;
  d["vocabulary"] = s.vocabulary;
  d["joiner_width"] = s.joiner_width;
  d["context_tokens"] = s.context_tokens;
  d["blank_penalty"] = s.blank_penalty;
  d["sparsity"] = s.sparsity;
  d["longest_piece_s"] = s.longest_piece_s;
  return d;
}

nb::dict transcribe(const Handle& self, const Samples& samples, uint32_t beam_width,
                    double tail_s) {
  const auto options = options_of(*self.model, beam_width, true, 1.2, 20.0, tail_s, true);
  dualmode::Transcript found;
  {
    nb::gil_scoped_release release;
    if (self.model->settings.streams != 0) {
      Session session(self.model, options);
      session.push(samples.data(), samples.size());
      found = session.finish();
    } else {
      found =
          dualmode::transcribe_whole(*self.model, options, samples.data(), samples.size());
    }
  }
  return transcript_dict(found);
}

// Joiner-width frames (T, J) of mel frames (M, 80), all in one window.
Output whole_frames(const Handle& self, const Rows& mels) {
  const size_t rows = mels.shape(0), frames = self.model->settings.frames(rows);
  const size_t width = self.model->settings.joiner_width;
  if (mels.shape(1) != kMels) throw Error(DUALMODE_INVALID_ARGUMENT, "mels must be (M, 80)");
  if (frames == 0) return array_of({}, 0, width);
  dualmode::Workspace w;
  {
    nb::gil_scoped_release release;
    dualmode::run_windows(*self.model, {{nullptr, mels.data(), rows, frames, frames}}, frames,
                          frames, w);
  }
  return array_of(frames_of(w.frames, width, w.stride, frames), frames, width);
}

Output predict(const Handle& self, const std::vector<std::vector<uint32_t>>& contexts) {
  const dualmode::Settings& s = self.model->settings;
  for (const auto& context : contexts) {
    const bool known = std::all_of(context.begin(), context.end(),
                                   [&](uint32_t token) { return token < s.vocabulary; });
    if (context.size() != s.context_tokens || !known) {
      throw Error(DUALMODE_INVALID_ARGUMENT, "a context contains tokens that the model lacks");
    }
  }
  dualmode::Workspace w;
  dualmode::Scorer scorer(*self.model, w, 0.0f);
  std::vector<float> lanes, all;
  for (size_t at = 0; at < contexts.size(); at += kLanes) {
    const size_t count = std::min(kLanes, contexts.size() - at);
    const auto first = contexts.begin() + static_cast<std::ptrdiff_t>(at);
    scorer.predict({first, first + static_cast<std::ptrdiff_t>(count)}, lanes);
    const auto rows = frames_of(lanes, s.joiner_width, kLanes, count);
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return array_of(std::move(all), contexts.size(), s.joiner_width);
}

// Log-probabilities (B, V), without the blank penalty, of frames (B, J) and predictions (B, J).
Output score(const Handle& self, const Rows& frames, const Rows& predictions) {
  const dualmode::Settings& s = self.model->settings;
  const size_t count = frames.shape(0), width = s.joiner_width;
  if (frames.shape(1) != width || predictions.shape(1) != width ||
      predictions.shape(0) != count) {
    throw Error(DUALMODE_INVALID_ARGUMENT, "frames and predictions must both be (B, J)");
  }
  dualmode::Workspace w;
  dualmode::Scorer scorer(*self.model, w, 0.0f);
  std::vector<float> sums(width * kLanes), all(count * s.vocabulary);
  const std::vector<float> nothing(width, 0.0f);
  for (size_t at = 0; at < count; at += kLanes) {
    const size_t some = std::min(kLanes, count - at);
    for (size_t t = 0; t < some; ++t) {
      const float* frame = frames.data() + (at + t) * width;
      const float* prediction = predictions.data() + (at + t) * width;
      for (size_t r = 0; r < width; ++r) sums[r * kLanes + t] = frame[r] + prediction[r];
    }
    const float* logits = scorer.score_frames(sums.data(), kLanes, nothing.data(), 1);
    for (size_t t = 0; t < some; ++t) {
      const float total = scorer.log_total(t);
      float* row = &all[(at + t) * s.vocabulary];
      for (size_t v = 0; v < s.vocabulary; ++v) row[v] = logits[v * kLanes + t] - total;
    }
  }
  return array_of(std::move(all), count, s.vocabulary);
}

// The encoder of one stream, a window at a time, for searches written in Python.
class Encoder {
 public:
  explicit Encoder(const Handle& handle) : model_(handle.model), state_(*handle.model) {
    if (model_->settings.streams == 0) {
      throw Error(DUALMODE_UNSUPPORTED, "this model has full context, which cannot stream");
    }
  }

  // Another stream with the same past.
  Encoder copy() const { return Encoder(model_, state_); }
  uint64_t processed() const { return state_.processed; }

  // Frames (at most C, J) of a window with `valid` existing frames. `mels` (m, 80) begin after
  // those that earlier windows used: S (C + R) for the first window, S C for each other, with S
  // mel frames from one frame to the next.
  Output step(const Rows& mels, size_t valid) {
    const dualmode::Settings& s = model_->settings;
    if (mels.shape(1) != kMels || valid > s.window()) {
      throw Error(DUALMODE_INVALID_ARGUMENT, "mels must be (m, 80), valid at most a window");
    }
    if (valid == 0) return array_of({}, 0, s.joiner_width);
    const size_t fresh = state_.processed == 0 ? s.window() : s.chunk;
    const size_t count = std::min<size_t>(valid, s.chunk);
    dualmode::Workspace& w = workspace_;
    {
      nb::gil_scoped_release release;
      dualmode::run_windows(*model_, {{&state_, mels.data(), mels.shape(0), fresh, valid}},
                            s.window(), s.chunk, w);
    }
    return array_of(frames_of(w.frames, s.joiner_width, w.stride, count), count,
                    s.joiner_width);
  }

 private:
  Encoder(std::shared_ptr<const Model> model, const dualmode::EncoderState& state)
      : model_(std::move(model)), state_(state) {}

  std::shared_ptr<const Model> model_;
  dualmode::EncoderState state_;
  dualmode::Workspace workspace_;
};

// Log-mels of a stream, with tables of its own.
class Features {
 public:
  Output push(const Samples& samples) {
    std::vector<float> mels;
    online_.push(samples.data(), samples.size(), mels);
    return mels_of(std::move(mels));
  }

  Output finish() {
    std::vector<float> mels;
    online_.finish(mels);
    return mels_of(std::move(mels));
  }

 private:
  dualmode::FeatureTables tables_;
  dualmode::OnlineFeatures online_{&tables_};
};

nb::object segment(Session& self) {
  if (self.segments.empty()) return nb::none();
  const dualmode::Transcript taken = std::move(self.segments.front());
  self.segments.pop_front();
  return transcript_dict(taken);
}

nb::dict finish(Session& self) {
  dualmode::Transcript found;
  {
    nb::gil_scoped_release release;
    found = self.finish();
  }
  return transcript_dict(found);
}

std::vector<bool> push_all(const std::vector<Session*>& sessions,
                           const std::vector<Samples>& samples) {
  if (sessions.size() != samples.size()) {
    throw Error(DUALMODE_INVALID_ARGUMENT, "streams and samples must have the same length");
  }
  const std::set<Session*> distinct(sessions.begin(), sessions.end());
  if (distinct.size() != sessions.size() || distinct.count(nullptr) > 0) {
    throw Error(DUALMODE_INVALID_ARGUMENT, "every stream must be given once");
  }
  for (const Session* session : sessions) {
    if (&session->model() != &sessions[0]->model()) {
      throw Error(DUALMODE_INVALID_ARGUMENT, "the streams belong to different models");
    }
  }
  std::vector<const float*> pointers;
  std::vector<size_t> counts;
  for (const Samples& s : samples) {
    pointers.push_back(s.data());
    counts.push_back(s.size());
  }
  nb::gil_scoped_release release;
  return Session::push_all(sessions, pointers.data(), counts.data());
}

}  // namespace

NB_MODULE(_engine, m) {
  m.doc() = "The device engine: speech recognition without torch.";
  nb::exception<Error>(m, "EngineError", PyExc_RuntimeError);
  m.def("kernel_names", [] { return std::string(dualmode::kernel_names()); });
  nb::class_<Features>(m, "Features")
      .def(nb::init<>())
      .def("push", &Features::push, arg("samples"))
      .def("finish", &Features::finish);
  nb::class_<Handle>(m, "Model")
      .def(nb::init<const std::string&, const std::string&>(), arg("path"), arg("kernels") = "")
      .def("describe", &describe)
      .def_prop_ro("pieces", [](const Handle& self) { return self.model->artifact.pieces; })
      .def("transcribe", &transcribe, arg("samples"), arg("beam_width") = 1, arg("tail_s") = -1.0)
      .def("whole_frames", &whole_frames, arg("mels"))
      .def("predict", &predict, arg("contexts"))
      .def("score", &score, arg("frames"), arg("predictions"));
  nb::class_<Encoder>(m, "Encoder")
      .def(nb::init<const Handle&>(), arg("model"))
      .def("copy", &Encoder::copy)
      .def_prop_ro("processed", &Encoder::processed)
      .def("step", &Encoder::step, arg("mels"), arg("valid"));
  nb::class_<Session>(m, "Stream")
      .def(
          "__init__",
          [](Session* self, const Handle& handle, uint32_t beam_width, bool endpointing,
             double silence_s, double longest_s, double tail_s, bool keep_finished) {
            new (self) Session(handle.model,
                               options_of(*handle.model, beam_width, endpointing, silence_s,
                                          longest_s, tail_s, keep_finished));
          },
          arg("model"), arg("beam_width") = 1, arg("endpointing") = true, arg("silence_s") = 1.2,
          arg("longest_s") = 20.0, arg("tail_s") = -1.0, arg("keep_finished") = true)
      .def(
          "push",
          [](Session& self, const Samples& samples) {
            nb::gil_scoped_release release;
            return self.push(samples.data(), samples.size());
          },
          arg("samples"))
      .def("partial", [](const Session& self) { return transcript_dict(self.partial()); })
      .def("segment", &segment)
      .def("finish", &finish)
      .def_prop_ro("missing", &Session::missing)
      .def("reset", &Session::reset);
  m.def("push_all", &push_all, arg("streams"), arg("samples"));
}
