// Runs a CUDA kernel body on the CPU: one fiber a thread, blocks one after another. For checking arithmetic, indexing
// and barriers of the bodies beside this file; says nothing of speed. Covers only what those bodies use.
#pragma once
#include <ucontext.h>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>
#define __device__
#define __shared__ static
#define __align__(n)
typedef _Float16 __half;
struct uint4 { unsigned x, y, z, w; };
struct Dim { int x, y, z; };
using std::max;
using std::min;

static Dim threadIdx, blockIdx, blockDim, gridDim;
static std::vector<char> dynamic_shared;
struct Fiber { ucontext_t context; std::vector<char> stack; bool done; };
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static int current;
static int block_arrived, block_generation, warp_arrived[32], warp_generation[32];
static uint32_t warp_slot[32][32];
static const std::function<void()>* body;

static void pause_fiber() { swapcontext(&fibers[current].context, &scheduler); }
static void meet(int& arrived, int& generation, int wanted) {
  const int mine = generation;
  if (++arrived == wanted) { arrived = 0; ++generation; return; }
  while (generation == mine) pause_fiber();
}
static void __syncthreads() { meet(block_arrived, block_generation, blockDim.x); }
static void __syncwarp() { meet(warp_arrived[threadIdx.x / 32], warp_generation[threadIdx.x / 32], 32); }
template <class V> V exchange(V v, int from) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  memcpy(&warp_slot[warp][lane], &v, 4);
  __syncwarp();
  V other;
  memcpy(&other, &warp_slot[warp][from < 0 ? lane : from], 4);
  __syncwarp();
  return other;
}
template <class V> V __shfl_xor_sync(unsigned, V v, int m) { return exchange(v, threadIdx.x % 32 ^ m); }
template <class V> V __shfl_up_sync(unsigned, V v, int d) { return exchange(v, threadIdx.x % 32 - d); }
static unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
static float rsqrtf(float x) { return 1 / std::sqrt(x); }
static int atomicAdd(int* p, int v) { int old = *p; *p += v; return old; }

namespace nvcuda { namespace wmma {
struct matrix_a; struct matrix_b; struct accumulator; struct row_major; struct col_major;
enum layout_t { mem_row_major };
template <class L> struct is_col { static const bool value = false; };
template <> struct is_col<col_major> { static const bool value = true; };
template <class Use, int M, int N, int K, class T, class Layout = row_major> struct fragment { float v[16][16]; };
template <class F, class T> void fill(F& f, T x) { for (auto& r : f.v) for (auto& e : r) e = x; }
template <class U, class T, class L> void fill_fragment(fragment<U, 16, 16, 16, T, L>& f, float x) { fill(f, x); }
template <class U, class T, class L>
void load_matrix_sync(fragment<U, 16, 16, 16, T, L>& f, const T* p, int ld) {
  __syncwarp();
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) f.v[i][j] = is_col<L>::value ? p[j * ld + i] : p[i * ld + j];
}
template <class D, class A, class B> void mma_sync(D& d, const A& a, const B& b, const D& c) {
  D r = c;
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < 16; ++k)
      for (int j = 0; j < 16; ++j) r.v[i][j] += a.v[i][k] * b.v[k][j];
  d = r;
}
template <class U, class T, class L>
void store_matrix_sync(T* p, const fragment<U, 16, 16, 16, T, L>& f, int ld, layout_t) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) for (int i = 0; i < 16; ++i) for (int j = 0; j < 16; ++j) p[i * ld + j] = f.v[i][j];
}
}}

static void enter() { (*body)(); fibers[current].done = true; swapcontext(&fibers[current].context, &scheduler); }

// Runs every block; a round in which no thread ends or passes a barrier is a divergent barrier and aborts.
static void launch(Dim grid, Dim block, int shared_bytes, const std::function<void()>& f) {
  body = &f; gridDim = grid; blockDim = block;
  const int n = block.x;
  dynamic_shared.assign(shared_bytes + 16, 0x7f);
  if (int(fibers.size()) < n) fibers.resize(n);
  for (int b = 0; b < grid.x * grid.y * grid.z; ++b) {
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    block_arrived = 0; memset(warp_arrived, 0, sizeof warp_arrived);
    for (int i = 0; i < n; ++i) {
      Fiber& fiber = fibers[i];
      fiber.stack.resize(128 << 10); fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.data(); fiber.context.uc_stack.ss_size = fiber.stack.size();
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, enter, 0);
    }
    for (int left = n; left;) {
      long before = block_generation; for (int w = 0; w < 32; ++w) before += warp_generation[w];
      const int had = left;
      for (int i = 0; i < n; ++i) {
        if (fibers[i].done) continue;
        current = i; threadIdx = {i, 0, 0};
        swapcontext(&scheduler, &fibers[i].context);
        left -= fibers[i].done;
      }
      long after = block_generation; for (int w = 0; w < 32; ++w) after += warp_generation[w];
      if (left == had && before == after) { fprintf(stderr, "a barrier not reached by all threads\n"); abort(); }
    }
  }
}
