// What bodies need of CUDA to be what Metal's standard library is to them.
#include <cuda_fp16.h>
#include <mma.h>
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
template <typename D, typename S> __device__ inline D as_type(S s) {
  D d;
  memcpy(&d, &s, sizeof(D));
  return d;
}
template <typename V> __device__ inline V simd_shuffle_xor(V v, uint m) { return __shfl_xor_sync(0xffffffffu, v, m); }
template <typename V> __device__ inline V simd_shuffle_up(V v, uint d) { return __shfl_up_sync(0xffffffffu, v, d); }
template <typename V> __device__ inline V simd_broadcast(V v, uint l) { return __shfl_sync(0xffffffffu, v, l); }
__device__ inline float simd_sum(float v) {
  for (uint m = 16; m; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
  return v;
}
__device__ inline float simd_max(float v) {
  for (uint m = 16; m; m >>= 1) v = larger(v, __shfl_xor_sync(0xffffffffu, v, m));
  return v;
}

using TileA = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, half, nvcuda::wmma::row_major>;
using TileB = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, half, nvcuda::wmma::row_major>;
using TileBt = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, half, nvcuda::wmma::col_major>;
using TileC = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;

template <typename T> __device__ inline void tile_load(T& t, const half* from, uint stride) {
  nvcuda::wmma::load_matrix_sync(t, from, stride);
}
__device__ inline void tile_load(TileC& t, const float* from, uint stride) {
  nvcuda::wmma::load_matrix_sync(t, from, stride, nvcuda::wmma::mem_row_major);
}
__device__ inline void tile_clear(TileC& t) { nvcuda::wmma::fill_fragment(t, 0.0f); }
template <typename B> __device__ inline void tile_product(TileC& c, TileA& a, B& b) {
  nvcuda::wmma::mma_sync(c, a, b, c);
}
__device__ inline void tile_store(TileC& t, float* to, uint stride) {
  nvcuda::wmma::store_matrix_sync(to, t, stride, nvcuda::wmma::mem_row_major);
}
constexpr uint TILE_ELEMENTS = 8;
__device__ inline float tile_get(TileC& t, uint i) { return t.x[i]; }
__device__ inline void tile_set(TileC& t, uint i, float v) { t.x[i] = v; }
