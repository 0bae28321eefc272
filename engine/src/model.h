// A model ready to run: matrices as views of the artifact's bytes, small values as floats, kernels.
// It is immutable, so any number of streams and threads can share it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "artifact.h"
#include "log_mels.h"
#include "kernels/kernels.h"

namespace dualmode {

struct Norm {
  std::vector<float> gain, bias;
};

struct LayerWeights {
  Norm first_norm, attention_norm, convolution_norm, second_norm;
  Matrix first_expand, first_contract;
  Matrix project, attention_out;
  Matrix gate, convolution_out;
  std::vector<float> depthwise, depthwise_bias;
  Matrix second_expand, second_contract;
};

// Token embeddings, one row per token: floats, or int8 with one scale per row.
struct Embedding {
  std::vector<float> floats;
  const int8_t* rows = nullptr;
  std::vector<float> scale;
};

class Mapping;  // bytes of a file

struct Model {
  // Takes ownership of the mapping, which is empty if the caller keeps the bytes.
  Model(Artifact parsed, const char* kernels, std::shared_ptr<const Mapping> mapping);

  const Artifact artifact;
  const Settings& settings = artifact.settings;
  const Kernels& kernels;
  const std::shared_ptr<const Mapping> mapping;
  const FeatureTables features;
  bool half_state = false;  // whether streams keep keys and values in 16 bits
  std::vector<char> word_starts;  // by token

  // Rotary positions: angle per frame of each pair of channels, with its cosine and sine.
  std::vector<double> turns, turn_cosines, turn_sines;

  std::vector<float> mean, inverse_deviation;
  std::vector<float> first_convolution, first_convolution_bias;
  // Columns are rows of the planes in subsampling.cpp; the third is of frames of 80 ms.
  Matrix second_convolution, third_convolution;
  Matrix subsampling_out;
  std::vector<LayerWeights> layers;
  Norm final_norm;
  Matrix from_frames;
  Embedding embedding;
  Matrix mix, from_predictions, out;
};

}  // namespace dualmode
