// 16 x 16 tiles of a product on tensor cores. Its own file: mma.h takes a compiler longer than most bodies.
#include <mma.h>
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
