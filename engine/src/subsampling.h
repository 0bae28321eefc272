// Normalised mel frames to latents, by two or three 3x3 convolutions of stride 2.
#pragma once

#include "encoder.h"

namespace dualmode {

// Latents of `count` frames from rows of 80 mels into lanes `first`.. of workspace.x, whose
// stride is `stride`; `count` + padding up to kLanes lanes must fit.
void subsample(const Model& model, const float* mels, size_t mel_rows, size_t count, float* x,
               size_t stride, size_t first, Workspace& workspace);

}  // namespace dualmode
