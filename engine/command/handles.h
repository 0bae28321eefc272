// RAII handles and exceptions over the C API, for the command.
#pragma once

#include <memory>
#include <stdexcept>

#include "dualmode/engine.h"

struct CloseModel {
  void operator()(dualmode_model* model) const { dualmode_close(model); }
};
struct FreeStream {
  void operator()(dualmode_stream* stream) const { dualmode_stream_free(stream); }
};
using ModelHandle = std::unique_ptr<dualmode_model, CloseModel>;
using StreamHandle = std::unique_ptr<dualmode_stream, FreeStream>;

inline void check(int code, const dualmode_error& error) {
  if (code != DUALMODE_OK) throw std::runtime_error(error.message);
}

inline ModelHandle open_model(const char* path, const char* kernels) {
  dualmode_model* model = nullptr;
  dualmode_error error;
  check(dualmode_open(path, kernels, &model, &error), error);
  return ModelHandle(model);
}

inline StreamHandle new_stream(const ModelHandle& model, const dualmode_options& options) {
  dualmode_stream* stream = nullptr;
  dualmode_error error;
  check(dualmode_stream_new(model.get(), &options, &stream, &error), error);
  return StreamHandle(stream);
}

inline dualmode_description description_of(const ModelHandle& model) {
  dualmode_description description;
  dualmode_error error;
  check(dualmode_describe(model.get(), &description, &error), error);
  return description;
}
