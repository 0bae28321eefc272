// Detects the kernels that this processor supports, and selects one of them.
#include <string>

#include "error.h"
#include "kernels/tables.h"

#if defined(DUALMODE_X86_KERNELS)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(DUALMODE_NEON_KERNELS) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace dualmode {
namespace {

#if defined(DUALMODE_X86_KERNELS)

// Leaf 1, bit 29 of ECX: conversions of halves.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

#if defined(DUALMODE_EMULATED_VNNI)
bool has_avx512_vnni() { return has_avx2(); }
bool has_avx_vnni() { return has_avx2(); }
#else
bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

// GCC 12 has no name for AVX-VNNI: leaf 7, subleaf 1, bit 4 of EAX.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

#elif defined(DUALMODE_NEON_KERNELS)

bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) >> 20 & 1) != 0;  // HWCAP_ASIMDDP
#elif defined(__APPLE__)
  return true;  // every 64-bit processor of Apple since 2018
#else
  return false;
#endif
}

#endif

bool always() { return true; }

struct Choice {
  const Kernels* kernels;
  bool (*runs)();
};

const Choice kChoices[] = {
#if defined(DUALMODE_X86_KERNELS)
    {&kAvx512VnniKernels, has_avx512_vnni},
    {&kAvxVnniKernels, has_avx_vnni},
    {&kAvx2Kernels, has_avx2},
#elif defined(DUALMODE_NEON_KERNELS)
    {&kNeonDotKernels, has_dot_product},
    {&kNeonKernels, always},
#elif defined(DUALMODE_WASM_KERNELS)
    {&kWasmKernels, always},
#endif
    {&kScalarKernels, always},
};

std::string make_names() {
  std::string names;
  for (const Choice& choice : kChoices) {
    if (!choice.runs()) continue;
    if (!names.empty()) names += ' ';
    names += choice.kernels->name;
  }
  return names;
}

}  // namespace

const Kernels& choose_kernels(const char* name) {
  const std::string wanted = name == nullptr ? "" : name;
  for (const Choice& choice : kChoices) {
    if (wanted.empty() ? choice.runs() : wanted == choice.kernels->name) {
      if (choice.runs()) return *choice.kernels;
      throw Error(DUALMODE_UNSUPPORTED, "this processor cannot run the kernels " + wanted +
                                            "; it has " + kernel_names());
    }
  }
  throw Error(DUALMODE_UNSUPPORTED,
              "this build has no kernels " + wanted + "; there are " + kernel_names());
}

const char* kernel_names() {
  static const std::string names = make_names();
  return names.c_str();
}

}  // namespace dualmode
