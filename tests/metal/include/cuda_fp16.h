// The part of CUDA that bodies use, on the shim.
#pragma once
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
inline void atomicAdd(uint* p, uint v) { *p += v; }
inline void __syncthreads() { shim::barrier(); }
inline void __syncwarp() { shim::simd_barrier(); }
template <class T> T __shfl_xor_sync(unsigned, T v, int d) { return shim::from_lane("shfl_xor", v, shim::lane() ^ d); }
template <class T> T __shfl_up_sync(unsigned, T v, int d) {
  return shim::from_lane("shfl_up", v, shim::lane() < d ? shim::lane() : shim::lane() - d);
}
template <class T> T __shfl_sync(unsigned, T v, int lane) { return shim::from_lane("shfl", v, lane); }
