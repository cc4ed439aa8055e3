#include <metal_simdgroup_matrix>
// 16 x 16 tiles of a product, as four 8 x 8 matrices of a simdgroup.
struct TileA { simdgroup_half8x8 m[4]; };
struct TileB { simdgroup_half8x8 m[4]; };
struct TileBt { simdgroup_half8x8 m[4]; };
struct TileC { simdgroup_float8x8 m[4]; };

template <typename P> inline void tile_load(thread TileA& t, P from, uint stride) {
  for (uint i = 0; i < 4; ++i) simdgroup_load(t.m[i], from + (i / 2) * 8 * stride + (i % 2) * 8, stride);
}
template <typename P> inline void tile_load(thread TileB& t, P from, uint stride) {
  for (uint i = 0; i < 4; ++i) simdgroup_load(t.m[i], from + (i / 2) * 8 * stride + (i % 2) * 8, stride);
}
// The tile's transpose lies in memory: element (k, n) at n * stride + k.
template <typename P> inline void tile_load(thread TileBt& t, P from, uint stride) {
  for (uint i = 0; i < 4; ++i)
    simdgroup_load(t.m[i], from + (i % 2) * 8 * stride + (i / 2) * 8, stride, ulong2(0, 0), true);
}
template <typename P> inline void tile_load(thread TileC& t, P from, uint stride) {
  for (uint i = 0; i < 4; ++i) simdgroup_load(t.m[i], from + (i / 2) * 8 * stride + (i % 2) * 8, stride);
}
inline void tile_clear(thread TileC& t) {
  for (uint i = 0; i < 4; ++i) t.m[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
template <typename B> inline void tile_product(thread TileC& c, thread TileA& a, thread B& b) {
  for (uint i = 0; i < 4; ++i)
    for (uint k = 0; k < 2; ++k)
      simdgroup_multiply_accumulate(c.m[i], a.m[(i / 2) * 2 + k], b.m[k * 2 + i % 2], c.m[i]);
}
template <typename P> inline void tile_store(thread TileC& t, P to, uint stride) {
  for (uint i = 0; i < 4; ++i) simdgroup_store(t.m[i], to + (i / 2) * 8 * stride + (i % 2) * 8, stride);
}
// A lane's own elements; the same number stands for the same place in every tile.
constant constexpr uint TILE_ELEMENTS = 8;
inline float tile_get(thread TileC& t, uint i) { return t.m[i / 2].thread_elements()[i % 2]; }
inline void tile_set(thread TileC& t, uint i, float v) { t.m[i / 2].thread_elements()[i % 2] = v; }
