// What bodies need of Metal beyond its standard library.
#include <metal_stdlib>
using namespace metal;
#define NO_VALUE (-INFINITY)

typedef char signed_byte;

// Functions by names that both languages can give a meaning to. Floats only.
inline float exp_of(float x) { return precise::exp(x); }
inline float log_of(float x) { return precise::log(x); }
inline float sqrt_of(float x) { return precise::sqrt(x); }
inline float larger(float a, float b) { return a > b ? a : b; }
inline float smaller(float a, float b) { return a < b ? a : b; }
inline float nearest_even(float x) { return rint(x); }
inline uint ones_in(uint x) { return popcount(x); }
inline float byte_less(uint word, uint i, float less) { return float((word >> (8 * i)) & 255u) - less; }
inline float byte_over(uint word, uint i) { return as_type<float>(0x3f000000u | ((word >> (8 * i)) & 255u) << 16); }
inline void count_one(threadgroup uint* counter) {
  atomic_fetch_add_explicit((threadgroup atomic_uint*)counter, 1u, memory_order_relaxed);
}
