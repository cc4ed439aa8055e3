// The part of CUDA that bodies use, on the shim.
#pragma once
#define SHIM_SHARED_KIB 48
#include "shim.h"
#define __device__
inline float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
inline int __popc(uint x) { return __builtin_popcount(x); }
#define __CUDA_ARCH__ 900
inline uint __byte_perm(uint a, uint b, uint selector) {
  uint r = 0;
  for (int i = 0; i < 4; i++) {
    const uint from = selector >> (4 * i) & 7;
    r |= ((from < 4 ? a >> (8 * from) : b >> (8 * (from - 4))) & 255u) << (8 * i);
  }
  return r;
}
inline uint __reduce_max_sync(unsigned, uint v) { return shim::reduce("reduce_max", v, [](uint a, uint b) { return a > b ? a : b; }); }
inline uint __reduce_min_sync(unsigned, uint v) { return shim::reduce("reduce_min", v, [](uint a, uint b) { return a < b ? a : b; }); }
inline uint atomicAdd(uint* p, uint v) { const uint before = *p; *p += v; return before; }
inline void __threadfence() {}
inline void __syncthreads() { shim::barrier(); }
inline void __syncwarp() { shim::simd_barrier(); }
template <class T> T __shfl_xor_sync(unsigned, T v, int d) { return shim::from_lane("shfl_xor", v, shim::lane() ^ d); }
template <class T> T __shfl_up_sync(unsigned, T v, int d) {
  return shim::from_lane("shfl_up", v, shim::lane() < d ? shim::lane() : shim::lane() - d);
}
template <class T> T __shfl_sync(unsigned, T v, int lane) { return shim::from_lane("shfl", v, lane); }
struct half2 { half x, y; };
inline half2 __floats2half2_rn(float low, float high) { return {half(low), half(high)}; }
// double holds the product and, unless exponents lie far apart, the sum: what is rounded once there is rounded once here
inline half half_fma(half a, half b, half c) { return half(float(double(float(a)) * float(b) + float(c))); }
inline half2 __hfma2(half2 a, half2 b, half2 c) { return {half_fma(a.x, b.x, c.x), half_fma(a.y, b.y, c.y)}; }
// mma.m16n8k16 with float16 operands, by the tables of the PTX manual.
#define tensor_product tensor_product
inline uint masked_or(uint word, uint mask, uint more) { return (word & mask) | more; }
inline uint pick_bytes(uint a, uint b, uint selector) { return __byte_perm(a, b, selector); }
inline uint masked_xor(uint word, uint mask, uint more) { return (word & mask) ^ more; }
// Copies happen when they are waited for: what reads too early finds what was there before.
struct Copy { uint4* to; const void* from; };
inline std::vector<Copy>& copies() { static std::vector<Copy> begun[1024]; return begun[shim::m().current]; }
inline void copy_sixteen(uint4* to, const uchar* from) {
  if ((uintptr_t)to % 16) shim::fail("a copy of sixteen bytes to an address that is none of sixteens");
  copies().push_back({to, from});
}
inline void copies_done() {
  for (const Copy& copy : copies()) memcpy(copy.to, copy.from, 16);
  copies().clear();
}
inline uint4 load_where(bool wanted, const uint4* from) { return wanted ? *from : uint4{0, 0, 0, 0}; }
inline void tensor_product(float* c, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  struct Elements { half a[8], b[4]; } mine;
  const uint words[6] = {a0, a1, a2, a3, b0, b1};
  memcpy(mine.a, words, 16);
  memcpy(mine.b, words + 4, 8);
  struct Result { float v[4]; };
  const Result r = shim::exchange("tensor_product", mine, [&](auto get) {
    const int g = shim::lane() / 4, t = shim::lane() % 4;
    Result out = {{c[0], c[1], c[2], c[3]}};
    for (int i = 0; i < 4; i++) {  // places 2 i, 2 i + 1, 2 i + 8, 2 i + 9 of k
      const Elements row = get(4 * g + i), even = get(8 * t + i), odd = get(8 * t + 4 + i);
      for (int k = 0; k < 4; k++) {
        const int at = k / 2 * 4 + k % 2;
        out.v[0] += float(row.a[at]) * float(even.b[k]);
        out.v[1] += float(row.a[at]) * float(odd.b[k]);
        out.v[2] += float(row.a[at + 2]) * float(even.b[k]);
        out.v[3] += float(row.a[at + 2]) * float(odd.b[k]);
      }
    }
    return out;
  });
  for (int i = 0; i < 4; i++) c[i] = r.v[i];
}
// mma.m16n8k32 with signed bytes, by the tables of the PTX manual.
inline void whole_product(int* c, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  struct Elements { signed char a[16], b[8]; } mine;
  const uint words[6] = {a0, a1, a2, a3, b0, b1};
  memcpy(mine.a, words, 16);
  memcpy(mine.b, words + 4, 8);
  struct Result { int v[4]; };
  const Result r = shim::exchange("whole_product", mine, [&](auto get) {
    const int g = shim::lane() / 4, t = shim::lane() % 4;
    Result out = {{c[0], c[1], c[2], c[3]}};
    for (int i = 0; i < 4; i++) {  // places 4 i to 4 i + 3, and 16 more, of k
      const Elements row = get(4 * g + i), even = get(8 * t + i), odd = get(8 * t + 4 + i);
      for (int k = 0; k < 8; k++) {
        const int at = k / 4 * 8 + k % 4;
        out.v[0] += row.a[at] * even.b[k];
        out.v[1] += row.a[at] * odd.b[k];
        out.v[2] += row.a[at + 4] * even.b[k];
        out.v[3] += row.a[at + 4] * odd.b[k];
      }
    }
    return out;
  });
  for (int i = 0; i < 4; i++) c[i] = r.v[i];
}
