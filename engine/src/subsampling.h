// Normalised mel frames to latents, by two or three 3x3 convolutions of stride 2.
#pragma once

#include "encoder.h"

namespace dualmode {

// Latents of `count` frames from rows of 80 mels into lanes `first`.. of workspace.x, whose
// stride is `stride`; `count` + padding up to kLanes lanes must fit. `state`, if any, has what the
// previous frames of the stream share with these, and gets what the next ones share.
void subsample(const Model& model, const float* mels, size_t mel_rows, size_t count,
               EncoderState* state, float* x, size_t stride, size_t first, Workspace& workspace);

}  // namespace dualmode
