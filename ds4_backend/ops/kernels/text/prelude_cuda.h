// What bodies need of CUDA to be what Metal's standard library is to them.
#include <cuda_fp16.h>
typedef unsigned int uint;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef signed char signed_byte;
typedef unsigned long ulong;
#define NO_VALUE (-__int_as_float(0x7f800000))

__device__ inline float exp_of(float x) { return expf(x); }
__device__ inline float log_of(float x) { return logf(x); }
__device__ inline float sqrt_of(float x) { return sqrtf(x); }
__device__ inline float larger(float a, float b) { return a > b ? a : b; }
__device__ inline float smaller(float a, float b) { return a < b ? a : b; }
__device__ inline float nearest_even(float x) { return rintf(x); }
__device__ inline uint ones_in(uint x) { return __popc(x); }
__device__ inline void count_one(uint* counter) { atomicAdd(counter, 1u); }
// How many came before, once everything that this threadgroup wrote can be read by whoever comes later.
__device__ inline uint take_number(uint* counter) {
  __threadfence();
  const uint number = atomicAdd(counter, 1u);
  __threadfence();
  return number;
}
// Byte i of a word less a number: the byte becomes the last digits of 2^23, which is quicker than a conversion.
__device__ inline float byte_less(uint word, uint i, float less) {
  return __int_as_float(__byte_perm(word, 0x4b000000u, 0x7440u | i)) - (8388608.0f + less);
}
// 0.5 + byte / 256 of a byte below 128, in one instruction.
__device__ inline float byte_over(uint word, uint i) {
  return __int_as_float(__byte_perm(word, 0x3f000000u, 0x7044u | (i << 8)));
}
template <typename D, typename S> __device__ inline D as_type(S s) {
  D d;
  memcpy(&d, &s, sizeof(D));
  return d;
}
template <typename V> __device__ inline V simd_shuffle_xor(V v, uint m) { return __shfl_xor_sync(0xffffffffu, v, m); }
template <typename V> __device__ inline V simd_shuffle_up(V v, uint d) { return __shfl_up_sync(0xffffffffu, v, d); }
template <typename V> __device__ inline V simd_broadcast(V v, uint l) { return __shfl_sync(0xffffffffu, v, l); }
#if __CUDA_ARCH__ < 800
__device__ inline uint simd_min(uint v) {
  for (uint m = 16; m; m >>= 1) v = min(v, __shfl_xor_sync(0xffffffffu, v, m));
  return v;
}
__device__ inline uint simd_max(uint v) { return ~simd_min(~v); }
#else
__device__ inline uint simd_min(uint v) { return __reduce_min_sync(0xffffffffu, v); }
__device__ inline uint simd_max(uint v) { return __reduce_max_sync(0xffffffffu, v); }
#endif
__device__ inline float simd_sum(float v) {
  for (uint m = 16; m; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
  return v;
}
__device__ inline float simd_max(float v) {
  for (uint m = 16; m; m >>= 1) v = larger(v, __shfl_xor_sync(0xffffffffu, v, m));
  return v;
}
