// The C API over the C++ parts: handles, codes and messages. No exception crosses it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include "dualmode/engine.h"
#include "error.h"
#include "mapped_file.h"
#include "session.h"

struct dualmode_model {
  std::shared_ptr<const dualmode::Model> model;
};

struct dualmode_stream {
  std::shared_ptr<const dualmode::Model> model;
  dualmode_options options;
  std::unique_ptr<dualmode::Session> session;  // null for a whole recording with full context
  dualmode::Transcript shown;                  // storage of the last text
  std::string text;
  std::vector<dualmode_word> words;
};

namespace {

using dualmode::Error;

int report(dualmode_error* error, int code, const char* message) {
  if (error != nullptr) {
    error->code = code;
    std::snprintf(error->message, sizeof error->message, "%s", message);
  }
  return code;
}

// Run `body` and convert exceptions to a code and a message.
template <class Body>
int guarded(dualmode_error* error, Body body) {
  try {
    body();
    return report(error, DUALMODE_OK, "");
  } catch (const Error& e) {
    return report(error, e.code, e.what());
  } catch (const std::bad_alloc&) {
    return report(error, DUALMODE_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return report(error, DUALMODE_INTERNAL, e.what());
  } catch (...) {
    return report(error, DUALMODE_INTERNAL, "unknown exception");
  }
}

void require(bool fulfilled, const char* what) {
  if (!fulfilled) throw Error(DUALMODE_INVALID_ARGUMENT, what);
}

dualmode_model* open_bytes(const uint8_t* bytes, size_t size, const char* kernels,
                           std::shared_ptr<const dualmode::Mapping> mapping) {
  auto model = std::make_shared<dualmode::Model>(dualmode::Artifact::parse(bytes, size), kernels,
                                                 std::move(mapping));
  return new dualmode_model{std::move(model)};
}

dualmode_options checked(const dualmode_options* options, const dualmode::Settings& settings) {
  dualmode_options chosen;
  dualmode_default_options(&chosen);
  if (options != nullptr) {
    chosen = *options;
  } else {
    chosen.tail_s = static_cast<double>(settings.tail_s);
  }
  dualmode::check_options(chosen);
  return chosen;
}

void show(dualmode_stream& stream, dualmode::Transcript transcript, dualmode_text* text) {
  stream.shown = std::move(transcript);
  stream.text = stream.shown.text();
  stream.words.clear();
  for (const dualmode::Word& word : stream.shown.words) {
    stream.words.push_back({word.text.c_str(), word.start_s, word.end_s, word.confidence});
  }
  *text = {stream.text.c_str(), stream.words.data(), stream.words.size(), stream.shown.stable,
           stream.shown.seconds};
}

dualmode::Session& session_of(dualmode_stream* stream) {
  require(stream != nullptr, "the stream is a null pointer");
  if (stream->session == nullptr) {
    throw Error(DUALMODE_UNSUPPORTED, "this handle is of a whole recording, not of a stream");
  }
  return *stream->session;
}

}  // namespace

void dualmode_default_options(dualmode_options* options) {
  if (options != nullptr) *options = {1, 1, 1.2, 20.0, 0.3, 1};
}

int dualmode_open(const char* path, const char* kernels, dualmode_model** model,
                  dualmode_error* error) {
  return guarded(error, [&] {
    require(path != nullptr && model != nullptr, "path or model is a null pointer");
    *model = nullptr;
    auto mapping = dualmode::Mapping::open(path);
    const uint8_t* bytes = mapping->bytes();
    const size_t size = mapping->size();
    *model = open_bytes(bytes, size, kernels, std::move(mapping));
  });
}

int dualmode_open_memory(const void* bytes, size_t size, const char* kernels,
                         dualmode_model** model, dualmode_error* error) {
  return guarded(error, [&] {
    require(bytes != nullptr && model != nullptr, "bytes or model is a null pointer");
    *model = nullptr;
    require(reinterpret_cast<uintptr_t>(bytes) % alignof(float) == 0,
            "the bytes must be aligned to 4");
    *model = open_bytes(static_cast<const uint8_t*>(bytes), size, kernels, nullptr);
  });
}

void dualmode_close(dualmode_model* model) { delete model; }

int dualmode_describe(const dualmode_model* model, dualmode_description* description,
                      dualmode_error* error) {
  return guarded(error, [&] {
    require(model != nullptr && description != nullptr, "model or description is a null pointer");
    const dualmode::Model& m = *model->model;
    const dualmode::Settings& s = m.settings;
    *description = {m.artifact.card.c_str(), m.kernels.name, m.artifact.size,
                    dualmode::state_bytes(s, m.half_state), m.artifact.version,
                    s.sample_rate_hz, s.streams, s.chunk, s.left, s.lookahead, s.width, s.layers,
                    s.vocabulary, s.joiner_width, s.context_tokens, s.sparsity, s.frame_ms};
  });
}

const char* dualmode_kernel_names(void) {
  try {
    return dualmode::kernel_names();
  } catch (...) {
    return "";
  }
}

int dualmode_stream_new(const dualmode_model* model, const dualmode_options* options,
                        dualmode_stream** stream, dualmode_error* error) {
  return guarded(error, [&] {
    require(model != nullptr && stream != nullptr, "model or stream is a null pointer");
    *stream = nullptr;
    const dualmode_options chosen = checked(options, model->model->settings);
    auto made = std::make_unique<dualmode_stream>();
    made->model = model->model;
    made->options = chosen;
    made->session = std::make_unique<dualmode::Session>(model->model, chosen);
    *stream = made.release();
  });
}

int dualmode_stream_push(dualmode_stream* stream, const float* samples, size_t count, int* changed,
                         dualmode_error* error) {
  return guarded(error, [&] {
    require(samples != nullptr || count == 0, "samples is a null pointer");
    const bool text_changed = session_of(stream).push(samples, count);
    if (changed != nullptr) *changed = text_changed;
  });
}

int dualmode_stream_push_int16(dualmode_stream* stream, const int16_t* samples, size_t count,
                               int* changed, dualmode_error* error) {
  return guarded(error, [&] {
    require(samples != nullptr || count == 0, "samples is a null pointer");
    dualmode::Session& session = session_of(stream);
    std::vector<float> floats(count);
    for (size_t i = 0; i < count; ++i) floats[i] = static_cast<float>(samples[i]) / 32768.0f;
    const bool text_changed = session.push(floats.data(), count);
    if (changed != nullptr) *changed = text_changed;
  });
}

int dualmode_streams_push(dualmode_stream* const* streams, const float* const* samples,
                          const size_t* counts, size_t stream_count, int* changed,
                          dualmode_error* error) {
  return guarded(error, [&] {
    require((streams != nullptr && samples != nullptr && counts != nullptr) || stream_count == 0,
            "streams, samples or counts is a null pointer");
    std::vector<dualmode::Session*> sessions;
    for (size_t i = 0; i < stream_count; ++i) {
      sessions.push_back(&session_of(streams[i]));
      require(streams[i]->model == streams[0]->model, "the streams belong to different models");
      require(samples[i] != nullptr || counts[i] == 0, "samples is a null pointer");
      for (size_t j = 0; j < i; ++j) require(streams[i] != streams[j], "a stream is given twice");
    }
    const std::vector<bool> text_changed = dualmode::Session::push_all(sessions, samples, counts);
    if (changed != nullptr) std::copy(text_changed.begin(), text_changed.end(), changed);
  });
}

int dualmode_stream_partial(dualmode_stream* stream, dualmode_text* text, dualmode_error* error) {
  return guarded(error, [&] {
    require(text != nullptr, "text is a null pointer");
    dualmode::Transcript partial = session_of(stream).partial();
    show(*stream, std::move(partial), text);
  });
}

int dualmode_stream_segment(dualmode_stream* stream, dualmode_text* text, int* there,
                            dualmode_error* error) {
  return guarded(error, [&] {
    require(text != nullptr && there != nullptr, "text or there is a null pointer");
    *there = 0;
    auto& segments = session_of(stream).segments;
    if (segments.empty()) return;
    show(*stream, std::move(segments.front()), text);
    segments.pop_front();
    *there = 1;
  });
}

int dualmode_stream_finish(dualmode_stream* stream, dualmode_text* text, dualmode_error* error) {
  return guarded(error, [&] {
    require(text != nullptr, "text is a null pointer");
    dualmode::Transcript whole = session_of(stream).finish();
    show(*stream, std::move(whole), text);
  });
}

int dualmode_stream_reset(dualmode_stream* stream, dualmode_error* error) {
  return guarded(error, [&] { session_of(stream).reset(); });
}

void dualmode_stream_free(dualmode_stream* stream) { delete stream; }

int dualmode_transcribe(const dualmode_model* model, const dualmode_options* options,
                        const float* samples, size_t count, dualmode_stream** stream,
                        dualmode_text* text, dualmode_error* error) {
  return guarded(error, [&] {
    require(model != nullptr && stream != nullptr && text != nullptr,
            "model, stream or text is a null pointer");
    require(samples != nullptr || count == 0, "samples is a null pointer");
    *stream = nullptr;
    auto made = std::make_unique<dualmode_stream>();
    made->model = model->model;
    made->options = checked(options, model->model->settings);
    dualmode::Transcript transcript;
    if (model->model->settings.streams != 0) {
      made->session = std::make_unique<dualmode::Session>(model->model, made->options);
      made->session->push(samples, count);
      transcript = made->session->finish();
    } else {
      transcript = dualmode::transcribe_whole(*model->model, made->options, samples, count);
    }
    show(*made, std::move(transcript), text);
    *stream = made.release();
  });
}
