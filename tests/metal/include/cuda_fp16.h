// The part of CUDA that bodies use, on the shim.
#pragma once
#include "shim.h"
#define __device__
inline float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
inline int __popc(uint x) { return __builtin_popcount(x); }
inline void atomicAdd(uint* p, uint v) { *p += v; }
inline void __syncthreads() { shim::barrier(); }
inline void __syncwarp() { shim::simd_barrier(); }
template <class T> T __shfl_xor_sync(unsigned, T v, int d) { return shim::from_lane("shfl_xor", v, shim::lane() ^ d); }
template <class T> T __shfl_up_sync(unsigned, T v, int d) {
  return shim::from_lane("shfl_up", v, shim::lane() < d ? shim::lane() : shim::lane() - d);
}
template <class T> T __shfl_sync(unsigned, T v, int lane) { return shim::from_lane("shfl", v, lane); }
