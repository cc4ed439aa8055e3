// Runs a GPU kernel body on the CPU: one fiber a lane, threadgroups one after another. For arithmetic, indexing and
// synchronisation; it says nothing of speed, of register limits, or of a compiler's acceptance.
//
// Lanes run in random order, so that a missing barrier shows; threadgroup memory and outputs begin as NaN; a barrier or
// simdgroup operation that some lanes miss is an error and not a hang.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

namespace shim {
#ifndef SHIM_SHARED_KIB
#define SHIM_SHARED_KIB 32  // Metal's; one state for all programs of a process has room for CUDA's
#endif
#define SHIM_QUOTED(x) #x
#define SHIM_TEXT(x) SHIM_QUOTED(x)
constexpr int MAX_LANES = 1024, STACK = 256 << 10, SHARED_BYTES = 48 << 10;
enum State { READY, IN_SIMDGROUP, AT_BARRIER, DONE };

#if defined(__x86_64__)
extern "C" void shim_switch(void** from, void* to);
__asm__(
    ".text\n.globl shim_switch\nshim_switch:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
#else
#error "the shim switches stacks by x86-64 instructions"
#endif

struct Dim { unsigned x, y, z; };
struct Machine {
  void* home;
  void* sp[MAX_LANES];
  State state[MAX_LANES];
  const char* what[MAX_LANES];
  int lanes, current, allocated[MAX_LANES];
  unsigned char slots[2][MAX_LANES][32];
  int turn[MAX_LANES];
  alignas(64) char shared[SHARED_BYTES];
  int shared_used;
  char* stacks;
  Dim group;
  void (*body)(void**);
  void** arguments;
  const char* error;
  uint64_t seed;
};
inline Machine& m() { static Machine machine; return machine; }
inline void pause(State state, const char* what) {
  Machine& s = m();
  const int lane = s.current;
  s.state[lane] = state;
  s.what[lane] = what;
  shim_switch(&s.sp[lane], s.home);
}
[[noreturn]] inline void fail(const char* message) {
  Machine& s = m();
  s.error = message;
  shim_switch(&s.sp[s.current], s.home);
  abort();
}
extern "C" inline void shim_lane() {
  Machine& s = m();
  s.body(s.arguments);
  pause(DONE, "end");
  abort();
}
inline void start(int lane) {
  Machine& s = m();
  void** top = (void**)(s.stacks + (size_t)(lane + 1) * STACK - 64);
  *--top = nullptr;                       // keeps the stack as it is after a call: 8 bytes off 16
  *--top = (void*)shim_lane;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  s.sp[lane] = top;
  s.state[lane] = READY;
  s.allocated[lane] = s.turn[lane] = 0;
}
// Releases the lanes of [low, high) if all wait in `state`; some waiting and some gone is an error.
inline bool release(int low, int high, State state, const char* missed) {
  Machine& s = m();
  int waiting = 0, done = 0;
  bool same = true;
  const char* what = nullptr;
  for (int i = low; i < high; i++) {
    if (s.state[i] == state) {
      waiting++;
      if (!what) what = s.what[i];
      same = same && !strcmp(what, s.what[i]);
    }
    done += s.state[i] == DONE;
  }
  if (waiting && done && waiting + done == high - low) s.error = missed;
  if (waiting < high - low) return false;
  if (!same) s.error = "lanes of one simdgroup are at different operations";
  for (int i = low; i < high; i++) s.state[i] = READY;
  return true;
}
inline uint64_t random_number() {
  uint64_t& x = m().seed;
  x ^= x << 13; x ^= x >> 7; x ^= x << 17;
  return x;
}
inline bool run_group(int lanes) {
  Machine& s = m();
  s.lanes = lanes;
  memset(s.shared, 0xff, sizeof s.shared);
  s.shared_used = 0;
  std::vector<int> order(lanes);
  for (int i = 0; i < lanes; i++) { start(i); order[i] = i; }
  for (int i = lanes - 1; i > 0; i--) std::swap(order[i], order[random_number() % (i + 1)]);
  for (;;) {
    bool ran = false;
    const int turn = random_number() % lanes;
    for (int k = 0; k < lanes && !s.error; k++) {
      const int i = order[(k + turn) % lanes];
      if (s.state[i] == READY) { s.current = i; shim_switch(&s.home, s.sp[i]); ran = true; }
    }
    int done = 0;
    for (int low = 0; low < lanes; low += 32)
      ran |= release(low, std::min(low + 32, lanes), IN_SIMDGROUP, "a simdgroup operation is missed by lanes that ended");
    ran |= release(0, lanes, AT_BARRIER, "a threadgroup barrier is missed by lanes that ended");
    for (int i = 0; i < lanes; i++) done += s.state[i] == DONE;
    if (s.error) return false;
    if (done == lanes) return true;
    if (!ran) { s.error = "divergent barrier: some lanes wait at a barrier, others in a simdgroup operation"; return false; }
  }
}
inline const char* launch(void (*body)(void**), void** arguments, Dim groups, int lanes, uint64_t seed) {
  Machine& s = m();
  if (!s.stacks) s.stacks = (char*)malloc((size_t)MAX_LANES * STACK);
  s.body = body; s.arguments = arguments; s.error = nullptr; s.seed = seed * 2 + 1;
  for (s.group.z = 0; s.group.z < groups.z; s.group.z++)
    for (s.group.y = 0; s.group.y < groups.y; s.group.y++)
      for (s.group.x = 0; s.group.x < groups.x; s.group.x++)
        if (!run_group(lanes)) return s.error;
  return nullptr;
}
// An array of threadgroup memory: the n-th declaration is the same memory in every lane.
template <class T> T* shared(size_t count) {
  Machine& s = m();
  int& used = s.allocated[s.current];
  T* at = (T*)(s.shared + used);
  used += (int)((count * sizeof(T) + 31) / 32 * 32);
  if (used > SHIM_SHARED_KIB << 10) fail("more than " SHIM_TEXT(SHIM_SHARED_KIB) " KiB of threadgroup memory");
  return at;
}
inline void barrier() { pause(AT_BARRIER, "barrier"); }
inline void simd_barrier() { pause(IN_SIMDGROUP, "simdgroup barrier"); }
inline int lane() { return m().current % 32; }
// Every lane of the simdgroup gives a value; afterwards `get(lane)` is any lane's.
template <class T, class F> auto exchange(const char* what, T value, F use) {
  static_assert(sizeof(T) <= 32, "");
  Machine& s = m();
  const int me = s.current, base = me / 32 * 32, buffer = s.turn[me]++ % 2;
  memcpy(s.slots[buffer][me], &value, sizeof(T));
  pause(IN_SIMDGROUP, what);
  return use([&](int from) { T v; memcpy(&v, s.slots[buffer][base + (from & 31)], sizeof(T)); return v; });
}
template <class T> T from_lane(const char* what, T v, int from) { return exchange(what, v, [=](auto get) { return get(from); }); }
template <class T, class F> T reduce(const char* what, T v, F f) {
  return exchange(what, v, [=](auto get) { T a = get(0); for (int i = 1; i < 32; i++) a = f(a, get(i)); return a; });
}
// IEEE binary16, every conversion rounded once, to nearest even.
inline uint16_t to_half(float f) {
  uint32_t x; memcpy(&x, &f, 4);
  const uint32_t sign = x >> 16 & 0x8000, size = x & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00;
  if (size >= 0x47800000) return sign | 0x7c00;
  if (size < 0x38800000) {               // below 2^-14: a multiple of 2^-24
    float g; memcpy(&g, &size, 4);
    return sign | (uint16_t)std::nearbyint(g * 16777216.0f);
  }
  return sign | (uint16_t)((size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
}
inline float from_half(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
  float f;
  if (exponent == 0) { f = mantissa / 16777216.0f; return sign ? -f : f; }
  const uint32_t x = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13;
  memcpy(&f, &x, 4);
  return f;
}
}  // namespace shim

typedef unsigned int uint;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned long ulong;
struct half {
  uint16_t bits;
  half() = default;
  explicit half(float f) : bits(shim::to_half(f)) {}
  operator float() const { return shim::from_half(bits); }
};
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint4 { uint x, y, z, w; };
struct uint2 { uint x, y; };
struct uint3 { uint x, y, z; };
