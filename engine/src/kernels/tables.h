// The tables that a build may contain; kernels/dispatch.cpp selects one of those compiled in.
#pragma once

#include "kernels/kernels.h"

namespace dualmode {

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvxVnniKernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kNeonKernels;
extern const Kernels kNeonDotKernels;
extern const Kernels kWasmKernels;

}  // namespace dualmode
