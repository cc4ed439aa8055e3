// Products of 16 x 16 and 16 x 8 on tensor cores whose operands lie in registers, and arithmetic of float16 pairs.
// c [16, 8] += a [16, 16] b [16, 8]. With g = lane / 4 and t = lane % 4 a lane holds (PTX, mma.m16n8k16)
//   a: rows g, g + 8, g, g + 8 at columns 2t and 2t + 1 (the first two words), 2t + 8 and 2t + 9 (the others)
//   b: rows 2t, 2t + 1 and then 2t + 8, 2t + 9 of column g;  c: row g, columns 2t and 2t + 1, then the same of row g + 8
#ifndef tensor_product
#if __CUDA_ARCH__ < 800
#define HALF_MMA "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},"
#define MMA HALF_MMA "{%4,%5},{%8},{%0,%1,%2,%3};" HALF_MMA "{%6,%7},{%9},{%0,%1,%2,%3};"
#else
#define MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
#endif
__device__ inline void tensor_product(float* c, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  asm(MMA
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// c [16, 8] += a [16, 32] b [32, 8], signed bytes. The same lanes, and of a lane four bytes side by side where two halves
// were (PTX, mma.m16n8k32): a: columns 4t to 4t + 3, and 4t + 16 on; b: rows 4t to 4t + 3, and 4t + 16 on.
#if __CUDA_ARCH__ < 800
#define BYTE_MMA(c0, c1, a, b) "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {" c0 "," c1 "},{" a "},{" b "},{" c0 "," c1 "};"
#define WHOLE_MMA BYTE_MMA("%0", "%1", "%4", "%8") BYTE_MMA("%0", "%1", "%6", "%9") BYTE_MMA("%2", "%3", "%5", "%8") BYTE_MMA("%2", "%3", "%7", "%9")
#else
#define WHOLE_MMA "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
#endif
__device__ inline void whole_product(int* c, uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
  asm(WHOLE_MMA
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// (word & mask) | more, and with ^: one instruction, which compilers do not find where two of the three are constants.
__device__ inline uint masked_or(uint word, uint mask, uint more) {
  uint r;
  asm("lop3.b32 %0,%1,%2,%3,0xea;" : "=r"(r) : "r"(word), "r"(mask), "r"(more));
  return r;
}
__device__ inline uint masked_xor(uint word, uint mask, uint more) {
  uint r;
  asm("lop3.b32 %0,%1,%2,%3,0x6a;" : "=r"(r) : "r"(word), "r"(mask), "r"(more));
  return r;
}
// Four bytes of a (0 to 3) and b (4 to 7), each by a nibble below 8 of the selector: nothing masks the nibbles.
__device__ inline uint pick_bytes(uint a, uint b, uint selector) {
  uint r;
  asm("prmt.b32 %0,%1,%2,%3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
// What threadgroup memory holds there, or zeros. Not a branch: compilers put products and shuffles behind that into both
// ways, and lanes that went different ways then wait for each other for ever.
__device__ inline uint4 load_where(bool wanted, const uint4* from) {
  uint4 v;
  asm volatile("{.reg .pred p; setp.ne.u32 p,%5,0; mov.b32 %0,0; mov.b32 %1,0; mov.b32 %2,0; mov.b32 %3,0;"
               "@p ld.shared.v4.u32 {%0,%1,%2,%3},[%4];}"
               : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
               : "r"((uint)__cvta_generic_to_shared(from)), "r"((uint)wanted) : "memory");
  return v;
}
// Sixteen bytes to threadgroup memory, there after `copies_done` of the thread that began the copy.
__device__ inline void copy_sixteen(uint4* to, const uchar* from) {
#if __CUDA_ARCH__ < 800
  *to = *(const uint4*)from;
#else
  asm volatile("cp.async.cg.shared.global [%0],[%1],16;" :: "r"((uint)__cvta_generic_to_shared(to)), "l"(from) : "memory");
#endif
}
__device__ inline void copies_done() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
#endif
// a b + c of both halves, rounded once.
__device__ inline uint pair_fma(uint a, uint b, uint c) {
  return as_type<uint>(__hfma2(as_type<half2>(a), as_type<half2>(b), as_type<half2>(c)));
}
__device__ inline uint pair_of_floats(float low, float high) { return as_type<uint>(__floats2half2_rn(low, high)); }
