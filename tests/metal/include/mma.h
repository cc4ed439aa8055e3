// 16 x 16 x 16 fragments of nvcuda::wmma over a warp, eight elements a lane, in a layout that bodies must not know.
#pragma once
#include "cuda_fp16.h"
namespace nvcuda { namespace wmma {
struct matrix_a; struct matrix_b; struct accumulator; struct row_major; struct col_major;
enum layout_t { mem_row_major };
template <class Use, int M, int N, int K, class T, class Layout = row_major> struct fragment {
  T x[8];
  static int row(int lane, int i) { return (lane * 8 + i) * 5 % 256 / 16; }
  static int column(int lane, int i) { return (lane * 8 + i) * 5 % 256 % 16; }
};
template <class P> void check(P p, unsigned stride) {
  // of threadgroup memory: what MLX allocates on a device is aligned, what it allocates here need not be
  const bool shared = (char*)p >= shim::m().shared && (char*)p < shim::m().shared + shim::SHARED_BYTES;
  if (shared && (uintptr_t)p % 32) shim::fail("wmma needs addresses of 32 bytes");
  if (stride * sizeof(*p) % 16) shim::fail("wmma needs strides of 16 bytes");
}
template <class Use, class T, class Layout, class P>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& f, P from, unsigned stride) {
  check(from, stride);
  const bool columns = std::is_same<Layout, col_major>::value;
  for (int i = 0; i < 8; i++) {
    const int r = f.row(shim::lane(), i), c = f.column(shim::lane(), i);
    f.x[i] = columns ? from[c * stride + r] : from[r * stride + c];
  }
  shim::simd_barrier();
}
template <class F, class P> void load_matrix_sync(F& f, P from, unsigned stride, layout_t) { load_matrix_sync(f, from, stride); }
template <class F, class P> void store_matrix_sync(P to, F& f, unsigned stride, layout_t) {
  check(to, stride);
  for (int i = 0; i < 8; i++) to[f.row(shim::lane(), i) * stride + f.column(shim::lane(), i)] = f.x[i];
  shim::simd_barrier();
}
template <class F> void fill_fragment(F& f, float v) { for (auto& e : f.x) e = v; }
template <class C, class A, class B> void mma_sync(C& d, A& a, B& b, C& c) {
  struct Elements { half a[8], b[8]; } mine;
  for (int i = 0; i < 8; i++) { mine.a[i] = a.x[i]; mine.b[i] = b.x[i]; }
  struct Result { float v[8]; };
  const Result r = shim::exchange("mma_sync", mine, [&](auto get) {
    float left[16][16], right[16][16];
    for (int lane = 0; lane < 32; lane++) {
      const Elements e = get(lane);
      for (int i = 0; i < 8; i++) {
        left[A::row(lane, i)][A::column(lane, i)] = e.a[i];
        right[B::row(lane, i)][B::column(lane, i)] = e.b[i];
      }
    }
    Result out;
    for (int i = 0; i < 8; i++) {
      const int row = C::row(shim::lane(), i), column = C::column(shim::lane(), i);
      out.v[i] = c.x[i];
      for (int k = 0; k < 16; k++) out.v[i] += left[row][k] * right[k][column];
    }
    return out;
  });
  for (int i = 0; i < 8; i++) d.x[i] = r.v[i];
}
}}  // namespace nvcuda::wmma
