// Runs code compiled for AVX-VNNI on an x86-64 processor with AVX2 only, under Linux: the processor
// refuses vpdpbusd, and a signal handler computes it.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define DUALMODE_TRAPS_VNNI

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

namespace trapped {

// The saved register `number` of 8 sums: its halves lie apart, as XSAVE defines.
class Register {
 public:
  Register(const mcontext_t& context, size_t number)
      : low_(reinterpret_cast<uint8_t*>(context.fpregs) + 160 + 16 * number),
        high_(reinterpret_cast<uint8_t*>(context.fpregs) + 576 + 16 * number) {}
  void read(uint8_t* bytes) const {
    std::memcpy(bytes, low_, 16);
    std::memcpy(bytes + 16, high_, 16);
  }
  void write(const uint8_t* bytes) {
    std::memcpy(low_, bytes, 16);
    std::memcpy(high_, bytes + 16, 16);
  }

 private:
  uint8_t *low_, *high_;
};

// vpdpbusd on 256-bit registers: adds to each 32-bit sum four products of an unsigned byte of the
// first source and a signed byte of the second.
inline void compute(int, siginfo_t*, void* saved) {
  mcontext_t& context = static_cast<ucontext_t*>(saved)->uc_mcontext;
  const auto* code = reinterpret_cast<const uint8_t*>(context.gregs[REG_RIP]);
  // VEX of three bytes: C4; R X B inverted, map 2; W 0, source inverted, L 1, prefix 66; then the
  // operation and a byte that names two registers.
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x87) != 5 || code[3] != 0x50 ||
      code[4] < 0xc0) {
    static const char kMessage[] = "an instruction that this processor lacks is not vpdpbusd\n";
    if (write(2, kMessage, sizeof kMessage - 1) < 0) _exit(2);
    _exit(1);
  }
  const size_t destination = (code[4] >> 3 & 7) + (code[1] & 0x80 ? 0 : 8);
  const size_t second = (code[4] & 7) + (code[1] & 0x20 ? 0 : 8);
  const size_t first = ~code[2] >> 3 & 15;
  uint8_t x[32], w[32];
  int32_t sums[8];
  Register(context, first).read(x);
  Register(context, second).read(w);
  Register total(context, destination);
  total.read(reinterpret_cast<uint8_t*>(sums));
  for (size_t i = 0; i < 32; ++i) sums[i / 4] += x[i] * static_cast<int8_t>(w[i]);
  total.write(reinterpret_cast<uint8_t*>(sums));
  context.gregs[REG_RIP] += 5;
}

inline void install() {
  struct sigaction action {};
  action.sa_sigaction = compute;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace trapped

#endif
