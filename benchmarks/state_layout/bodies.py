"""CUDA bodies of one CSA and one HCA layer over paged pools and per-slot rings, as text for `mx.fast.cuda_kernel`.

An experiment on the state layout, not the engine's kernels: no cache simulation, float16 rows, one token a span. Bodies
know pages, slots and positions only through int32 arrays: `spans` [S, 3] holds (position, slot, start of the page table
in `tables`), `tables` is every page table one after another. `after` is never read: it orders the launch.

Written so that the same text also runs on the CPU under `cuda_on_cpu.h`.
"""

from __future__ import annotations

HEADER = r"""
#include <mma.h>
#include <cuda_fp16.h>
namespace wm = nvcuda::wmma;
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

struct Span { int position, slot, table; };
__device__ inline Span span_of(const int* spans, int s) { return {spans[3 * s], spans[3 * s + 1], spans[3 * s + 2]}; }

// Sum over a block of up to 1024 threads; `scratch` holds 33 values.
__device__ inline float block_sum(float v, float* scratch) {
  for (int m = 16; m; m >>= 1) v += __shfl_xor_sync(0xffffffffu, v, m);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (int w = 0; w < int(blockDim.x) / 32; ++w) total += scratch[w];
    scratch[32] = total;
  }
  __syncthreads();
  return scratch[32];
}

// Exclusive prefix sum over a block; `scratch` holds 33 values, the total ends in scratch[32].
__device__ inline int block_scan(int v, int* scratch) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = v;
  for (int d = 1; d < 32; d <<= 1) {
    int below = __shfl_up_sync(0xffffffffu, sum, d);
    if (lane >= d) sum += below;
  }
  __syncthreads();
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int total = 0;
    for (int w = 0; w < int(blockDim.x) / 32; ++w) { int t = scratch[w]; scratch[w] = total; total += t; }
    scratch[32] = total;
  }
  __syncthreads();
  return scratch[warp] + sum - v;
}

// One token into a compressor: its (value, gate) into the ring at position mod LANE; at the end of a window the pooled,
// normed and rotated row into the pool. CSA has C = 2 (first halves belong to the next row), HCA C = 1.
template <int RATIO, int C, int W, int LANE, typename T>
__device__ inline void compress(Span span, const int* tables, const float* value, const float* gate, const float* ape,
                                const float* norm, const float* freqs, float* lane, T* pool, size_t page_stride,
                                float* row, float* scratch) {
  const int p = span.position, last = p % RATIO;
  float* ring = lane + size_t(span.slot) * LANE * 2 * C * W;            // [LANE, 2, C*W]
  float* mine = ring + size_t(p % LANE) * 2 * C * W;
  for (int c = threadIdx.x; c < C * W; c += blockDim.x) {
    mine[c] = value[c];
    mine[C * W + c] = gate[c] + ape[last * C * W + c];
  }
  if (last != RATIO - 1) return;
  __syncthreads();
  const int j = p / RATIO, first = j * RATIO, from = C == 2 && j > 0 ? first - RATIO : first;
  float squares = 0;
  for (int c = threadIdx.x; c < W; c += blockDim.x) {
    float top = -INFINITY, weight = 0, pooled = 0;
    for (int t = from; t <= p; ++t) {                                   // one pass: rescale when a larger gate comes
      const float* item = ring + size_t(t % LANE) * 2 * C * W + (C == 2 && t >= first ? W : 0) + c;
      float z = item[C * W], m = fmaxf(top, z), keep = expf(top - m), add = expf(z - m);
      weight = weight * keep + add;
      pooled = pooled * keep + add * item[0];
      top = m;
    }
    row[c] = pooled / weight;
    squares += row[c] * row[c];
  }
  const float scale = rsqrtf(block_sum(squares, scratch) / W + 1e-6f);
  const int rows = 128 / RATIO;
  T* out = pool + size_t(tables[span.table + j / rows]) * page_stride + size_t(j % rows) * W;
  for (int c = threadIdx.x; c < W; c += blockDim.x) {
    float x = row[c] * scale * norm[c];
    if (c >= W - 64) {
      const int pair = (c - (W - 64)) / 2;
      const float other = row[c ^ 1] * scale * norm[c ^ 1], angle = float(first) * freqs[pair];
      x = c % 2 ? other * sinf(angle) + x * cosf(angle) : x * cosf(angle) - other * sinf(angle);
    }
    out[c] = T(x);
  }
}
"""

# Grid 3 x S blocks of 256: window row, attention compressor, indexer compressor. Pools and rings are written in place.
APPEND_CSA = r"""
__shared__ float row[512], scratch[33];
const int s = blockIdx.y;
const Span span = span_of(spans, s);
if (blockIdx.x == 0) {
  T* ring = const_cast<T*>(window) + (size_t(span.slot) * RING + span.position % RING) * 512;
  for (int c = threadIdx.x; c < 512; c += blockDim.x) ring[c] = T(window_row[s * 512 + c]);
} else if (blockIdx.x == 1) {
  compress<4, 2, 512, 8, T>(span, tables, value + s * 1024, gate + s * 1024, ape, norm, freqs, const_cast<float*>(lane),
                            const_cast<T*>(csa) + CSA_OFFSET, CSA_STRIDE, row, scratch);
} else {
  compress<4, 2, 128, 8, T>(span, tables, index_value + s * 256, index_gate + s * 256, index_ape, index_norm, freqs,
                            const_cast<float*>(index_lane), const_cast<T*>(index) + INDEX_OFFSET, INDEX_STRIDE, row,
                            scratch);
}
if (threadIdx.x == 0) done[s * 3 + blockIdx.x] = span.position;
"""

# Grid 2 x S blocks of 512.
APPEND_HCA = r"""
__shared__ float row[512], scratch[33];
const int s = blockIdx.y;
const Span span = span_of(spans, s);
if (blockIdx.x == 0) {
  T* ring = const_cast<T*>(window) + (size_t(span.slot) * RING + span.position % RING) * 512;
  for (int c = threadIdx.x; c < 512; c += blockDim.x) ring[c] = T(window_row[s * 512 + c]);
} else {
  compress<128, 1, 512, 128, T>(span, tables, value + s * 512, gate + s * 512, ape, norm, freqs,
                                const_cast<float*>(lane), const_cast<T*>(hca) + HCA_OFFSET, HCA_STRIDE, row, scratch);
}
if (threadIdx.x == 0) done[s * 2 + blockIdx.x] = span.position;
"""

# Indexer scores of every visible row: sum_h w_h relu(q_h . row). Grid B x S blocks of 128; a warp holds 16 heads in
# registers, a block walks pages B apart.
SCORE = r"""
__shared__ float tile[4][16 * 20], part[4][32];
const int s = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
const Span span = span_of(spans, s);
const int n = (span.position + 1) / 4;
wm::fragment<wm::matrix_a, 16, 16, 16, T, wm::row_major> a[8];
for (int k = 0; k < 8; ++k) wm::load_matrix_sync(a[k], q + (size_t(s) * 64 + warp * 16) * 128 + k * 16, 128);
float w[8];
for (int h = 0; h < 8; ++h) w[h] = weights[s * 64 + warp * 16 + lane / 16 * 8 + h];
for (int page = blockIdx.x; page * 32 < n; page += gridDim.x) {
  const T* rows = index + INDEX_OFFSET + size_t(tables[span.table + page]) * INDEX_STRIDE;
  for (int half = 0; half < 2; ++half) {
    wm::fragment<wm::accumulator, 16, 16, 16, float> acc;
    wm::fill_fragment(acc, 0.0f);
    for (int k = 0; k < 8; ++k) {
      wm::fragment<wm::matrix_b, 16, 16, 16, T, wm::col_major> b;
      wm::load_matrix_sync(b, rows + half * 16 * 128 + k * 16, 128);
      wm::mma_sync(acc, a[k], b, acc);
    }
    wm::store_matrix_sync(tile[warp], acc, 20, wm::mem_row_major);      // [16 heads, 16 rows]
    __syncwarp();
    float sum = 0;
    for (int h = 0; h < 8; ++h) sum += w[h] * fmaxf(tile[warp][(lane / 16 * 8 + h) * 20 + lane % 16], 0.0f);
    sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    if (lane < 16) part[warp][half * 16 + lane] = sum;
    __syncwarp();
  }
  __syncthreads();
  const int r = page * 32 + threadIdx.x;
  if (threadIdx.x < 32 && r < n) {
    const int i = threadIdx.x;
    scores[size_t(s) * ROWS + r] = part[0][i] + part[1][i] + part[2][i] + part[3][i];
  }
  __syncthreads();
}
"""

# The K best of each CHUNK of scores, in row order, ties to the lower row; ids of -1 fill up. Grid chunks x S blocks of
# 1024, CHUNK keys in dynamic shared memory. MERGE reads candidates (`rows`, `scores`) of an earlier pass instead.
TOP_K = r"""
extern __shared__ __align__(16) char dynamic[];
unsigned* keys = reinterpret_cast<unsigned*>(dynamic);                  // [CHUNK]
__shared__ int bins[2048], scratch[33], found[2];
const int s = blockIdx.y, first = blockIdx.x * CHUNK, t = threadIdx.x;
const int n = MERGE ? ROWS : (spans[3 * s] + 1) / 4;
for (int i = t; i < CHUNK; i += 1024) {
  const int r = first + i;
  unsigned key = 0;                                                     // 0: no row here
  if (r < n && (!MERGE || rows[size_t(s) * ROWS + r] >= 0)) {
    const unsigned bits = __float_as_uint(scores[size_t(s) * ROWS + r]);
    key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;              // unsigned order = float order
    key = key ? key : 1;
  }
  keys[i] = key;
}
unsigned prefix = 0, mask = 0;
int need = K;
for (int pass = 0; pass < 3; ++pass) {                                  // digits of 11, 11 and 10 bits from the top
  const int shift = pass == 0 ? 21 : pass == 1 ? 10 : 0, width = pass == 2 ? 1024 : 2048;
  for (int i = t; i < 2048; i += 1024) bins[i] = 0;
  if (t == 0) found[0] = -1;
  __syncthreads();
  for (int i = t; i < CHUNK; i += 1024) {
    const unsigned key = keys[i];
    if (key && (key & mask) == prefix) atomicAdd(&bins[(key >> shift) & (width - 1)], 1);
  }
  __syncthreads();
  const int high = bins[2047 - 2 * t], low = bins[2046 - 2 * t];        // descending order of digits
  const int above = block_scan(high + low, scratch);
  if (above < need && above + high >= need) { found[0] = 2047 - 2 * t; found[1] = above; }
  else if (above + high < need && above + high + low >= need) { found[0] = 2046 - 2 * t; found[1] = above + high; }
  __syncthreads();
  if (found[0] < 0) { prefix = 0; mask = 0; break; }                    // fewer than K rows: take them all
  prefix |= unsigned(found[0]) << shift;
  mask |= unsigned(width - 1) << shift;
  need -= found[1];
  __syncthreads();
}
const bool all = mask == 0;
constexpr int EACH = CHUNK / 1024;
int more = 0, equal = 0;
for (int i = 0; i < EACH; ++i) {
  const unsigned key = keys[t * EACH + i];
  if (all ? key > 0 : key > prefix) ++more;
  else if (!all && key == prefix) ++equal;
}
int equals = block_scan(equal, scratch);
const int taken = max(0, min(equal, need - equals));
int at = block_scan(more + taken, scratch);
const int total = scratch[32];
const size_t base = (size_t(s) * gridDim.x + blockIdx.x) * K;
for (int i = 0; i < EACH; ++i) {
  const unsigned key = keys[t * EACH + i];
  const bool tie = !all && key == prefix;
  if (tie ? equals++ < need : all ? key > 0 : key > prefix) {
    const int r = first + t * EACH + i;
    chosen[base + at] = MERGE ? rows[size_t(s) * ROWS + r] : r;
    best[base + at] = scores[size_t(s) * ROWS + r];
    ++at;
  }
}
for (int i = total + t; i < K; i += 1024) { chosen[base + i] = -1; best[base + i] = -INFINITY; }
"""

# Attention of 16 heads over SPLIT rows: un-normalised output, top score, weight sum. Grid (splits, 4, S) blocks of 256.
# The first 128 / SPLIT splits are the window. EVERY: all rows of the pool count (HCA), else those in `chosen`.
ATTEND = r"""
extern __shared__ __align__(16) char dynamic[];
constexpr int LD = 520, TILES = SPLIT / 16, PARTS = 8 / TILES;
T* kv = reinterpret_cast<T*>(dynamic);                                  // [SPLIT, LD]
T* prob = kv + SPLIT * LD;                                              // [16, SPLIT + 8]
float* logits = reinterpret_cast<float*>(prob + 16 * (SPLIT + 8));      // [PARTS, 16, SPLIT + 4]
__shared__ const T* from[SPLIT];
const int s = blockIdx.z, head = blockIdx.y * 16, split = blockIdx.x, t = threadIdx.x, warp = t / 32, lane = t % 32;
const Span span = span_of(spans, s);
if (t < SPLIT) {
  const T* row = nullptr;
  if (split < 128 / SPLIT) {
    const int p = span.position - 127 + split * SPLIT + t;
    if (p >= 0) row = window + (size_t(span.slot) * RING + p % RING) * 512;
  } else {
    const int i = split * SPLIT - 128 + t;
    const int r = EVERY ? (i < (span.position + 1) * PER_PAGE / 128 ? i : -1) : (i < K ? chosen[s * K + i] : -1);
    if (r >= 0) row = pool + POOL_OFFSET + size_t(tables[span.table + r / PER_PAGE]) * POOL_STRIDE + r % PER_PAGE * 512;
  }
  from[t] = row;
}
__syncthreads();
for (int i = t; i < SPLIT * 64; i += 256) {
  const T* row = from[i / 64];
  const uint4 none = {0, 0, 0, 0};
  *reinterpret_cast<uint4*>(kv + i / 64 * LD + i % 64 * 8) = row ? reinterpret_cast<const uint4*>(row)[i % 64] : none;
}
__syncthreads();
{
  const int tile = warp % TILES, half = warp / TILES;
  wm::fragment<wm::accumulator, 16, 16, 16, float> acc;
  wm::fill_fragment(acc, 0.0f);
  for (int k = half * 32 / PARTS; k < (half + 1) * 32 / PARTS; ++k) {
    wm::fragment<wm::matrix_a, 16, 16, 16, T, wm::row_major> a;
    wm::fragment<wm::matrix_b, 16, 16, 16, T, wm::col_major> b;
    wm::load_matrix_sync(a, q + (size_t(s) * 64 + head) * 512 + k * 16, 512);
    wm::load_matrix_sync(b, kv + tile * 16 * LD + k * 16, LD);
    wm::mma_sync(acc, a, b, acc);
  }
  wm::store_matrix_sync(logits + half * 16 * (SPLIT + 4) + tile * 16, acc, SPLIT + 4, wm::mem_row_major);
}
__syncthreads();
for (int h = warp * 2; h < warp * 2 + 2; ++h) {
  float x[SPLIT / 32], top = -INFINITY, sum = 0;
  for (int i = 0; i < SPLIT / 32; ++i) {
    const int r = i * 32 + lane;
    float dot = 0;
    for (int p = 0; p < PARTS; ++p) dot += logits[(p * 16 + h) * (SPLIT + 4) + r];
    x[i] = from[r] ? dot * 0.04419417382415922f : -INFINITY;            // 512^-0.5
    top = fmaxf(top, x[i]);
  }
  for (int m = 16; m; m >>= 1) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, m));
  for (int i = 0; i < SPLIT / 32; ++i) {
    const float e = x[i] == -INFINITY ? 0.0f : expf(x[i] - top);
    prob[h * (SPLIT + 8) + i * 32 + lane] = T(e);
    sum += e;
  }
  for (int m = 16; m; m >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, m);
  if (lane == 0) {
    float* stat = stats + ((size_t(s) * gridDim.x + split) * 64 + head + h) * 2;
    stat[0] = top;
    stat[1] = sum;
  }
}
__syncthreads();
for (int tile = warp * 4; tile < warp * 4 + 4; ++tile) {
  wm::fragment<wm::accumulator, 16, 16, 16, float> acc;
  wm::fill_fragment(acc, 0.0f);
  for (int k = 0; k < SPLIT / 16; ++k) {
    wm::fragment<wm::matrix_a, 16, 16, 16, T, wm::row_major> a;
    wm::fragment<wm::matrix_b, 16, 16, 16, T, wm::row_major> b;
    wm::load_matrix_sync(a, prob + k * 16, SPLIT + 8);
    wm::load_matrix_sync(b, kv + k * 16 * LD + tile * 16, LD);
    wm::mma_sync(acc, a, b, acc);
  }
  wm::store_matrix_sync(parts + ((size_t(s) * gridDim.x + split) * 64 + head) * 512 + tile * 16, acc, 512,
                        wm::mem_row_major);
}
"""

# Joins the splits with the sink, and rotates the last 64 channels back. Grid (1, 64, S) blocks of 128, 4 channels each.
COMBINE = r"""
const int s = blockIdx.z, h = blockIdx.y, c = threadIdx.x * 4;
float top = sinks[h];
for (int i = 0; i < SPLITS; ++i) top = fmaxf(top, stats[((s * SPLITS + i) * 64 + h) * 2]);
float weight = expf(sinks[h] - top), o[4] = {0, 0, 0, 0};
for (int i = 0; i < SPLITS; ++i) {
  const size_t at = size_t(s * SPLITS + i) * 64 + h;
  const float e = expf(stats[at * 2] - top);
  weight += e * stats[at * 2 + 1];
  for (int k = 0; k < 4; ++k) o[k] += e * parts[at * 512 + c + k];
}
for (int k = 0; k < 4; ++k) o[k] /= weight;
if (c >= 448) {
  for (int k = 0; k < 4; k += 2) {
    const float angle = float(spans[3 * s]) * freqs[(c - 448 + k) / 2], a = o[k], b = o[k + 1];
    o[k] = a * cosf(angle) + b * sinf(angle);
    o[k + 1] = b * cosf(angle) - a * sinf(angle);
  }
}
for (int k = 0; k < 4; ++k) out[(size_t(s) * 64 + h) * 512 + c + k] = o[k];
"""
