// SPDX-License-Identifier: MIT
// Vec<Real>: one register of values. This file is the one place that knows how wide a register is.
//
// Vec is a GCC/Clang vector type, so + - * / and comparisons are the language's own, lane by lane.
// Everything else a kernel needs from the machine is here: loads and stores of part of a register,
// fused multiply-add, square root, limits, transposition, and what denormal numbers count as.
// Compiled once per instruction set (CMakeLists.txt).
#pragma once

#include <cstdint>

#include "args.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

using pygru::Index;

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
constexpr int kRegisterRows = 8;  // 8 rows x 3 registers = 24 accumulators of 32 registers
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
constexpr int kRegisterRows = 4;  // 4 x 3 accumulators + 3 weights + 1 broadcast = 16 registers
#elif defined(__aarch64__)
constexpr int kRegisterBytes = 16;
constexpr int kRegisterRows = 8;  // 8 x 3 accumulators + 3 weights + broadcasts of 32 registers
#else
constexpr int kRegisterBytes = 16;
constexpr int kRegisterRows = 4;
#endif
constexpr int kOverlap = 4;      // chains of a cell side by side
constexpr int kTileVectors = 3;  // a GRU's three gates, or three registers of neighbouring units

// This many rows x 3 registers are chains enough to hide the latency of a multiply-add: 4 cycles on
// two units, on aarch64 on four.
#if defined(__aarch64__)
constexpr int kLatencyRows = 8;
#else
constexpr int kLatencyRows = 4;
#endif

template <class Real>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float type __attribute__((vector_size(kRegisterBytes)));
  typedef std::uint32_t bits __attribute__((vector_size(kRegisterBytes)));
};
template <>
struct VecOf<double> {
  typedef double type __attribute__((vector_size(kRegisterBytes)));
  typedef std::uint64_t bits __attribute__((vector_size(kRegisterBytes)));
};
template <class Real>
using Vec = typename VecOf<Real>::type;
template <class Real>
using Bits = typename VecOf<Real>::bits;

template <class Real>
constexpr Index kLanes = kRegisterBytes / static_cast<Index>(sizeof(Real));

// ---- denormal numbers ----

// While it lives, denormal operands and results count as 0 in this thread: processors are up to a
// hundred times slower with them, and what is below 1e-38 (float64: 1e-308) moves no weight.
// No load or store may move across its ends, hence the clobbers of memory; so neither can what lies
// between a load and a store.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : before_(_mm_getcsr()) {
    constexpr unsigned flush_results = 0x8000, flush_operands = 0x0040;
    _mm_setcsr(before_ | flush_results | flush_operands);
    asm volatile("" ::: "memory");
  }
  ~FlushDenormals() {
    asm volatile("" ::: "memory");
    _mm_setcsr(before_);
  }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushDenormals() {
    constexpr std::uint64_t flush = std::uint64_t{1} << 24;
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | flush) : "memory");
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_) : "memory"); }

 private:
  std::uint64_t before_;
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

// ---- memory ----

// Brings a cache line closer: to be read, to be written, or no further than L2. The empty asm
// counts as an effect: GCC takes a function that only prefetches for one without any, and drops its
// calls.
enum class For { reading, writing, later };
template <For purpose>
inline void fetch_line(const void* p) {
  __builtin_prefetch(p, purpose == For::writing, purpose == For::later ? 2 : 3);
  asm volatile("");
}
constexpr int kLineRegisters = 64 / kRegisterBytes;

template <class Real>
inline Vec<Real> load(const Real* p) {
  Vec<Real> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class Real>
inline void store(Real* p, Vec<Real> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

template <class Real>
inline Vec<Real> broadcast(Real a) {
  return a - Vec<Real>{};  // a + 0 would lose the sign of -0
}

// The first n lanes from memory, 0 in the others; n < kLanes, all of them are 0 where n <= 0.
// Touches nothing past p[n - 1].
#if defined(__AVX512F__)
inline unsigned first_lanes(Index n) {
  return (1u << (n > 0 ? n : 0)) - 1;
}
inline Vec<float> load_part(const float* p, Index n) {
  return (Vec<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(first_lanes(n)), p);
}
inline Vec<double> load_part(const double* p, Index n) {
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(n)), p);
}
#elif defined(__AVX2__)
constexpr std::int32_t kAllThenNone[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
template <class Real>
inline __m256i first_lanes(Index n) {
  const Index words = (n > 0 ? n : 0) * static_cast<Index>(sizeof(Real) / sizeof(std::int32_t));
  __m256i mask;
  __builtin_memcpy(&mask, kAllThenNone + 8 - words, sizeof mask);
  return mask;
}
inline Vec<float> load_part(const float* p, Index n) {
  return (Vec<float>)_mm256_maskload_ps(p, first_lanes<float>(n));
}
inline Vec<double> load_part(const double* p, Index n) {
  return (Vec<double>)_mm256_maskload_pd(p, first_lanes<double>(n));
}
#else
template <class Real>
inline Vec<Real> load_part(const Real* p, Index n) {
  Vec<Real> v{};
#pragma GCC unroll 4
  for (Index lane = 0; lane < kLanes<Real>; ++lane)
    if (lane < n) v[lane] = p[lane];
  return v;
}
#endif

// The first n lanes to memory, n in 0 .. kLanes - 1: half a register, a quarter ... by the bits of
// n. (On Zen 3 a masked store takes eight times as long as a whole one.)
template <class Real>
inline void store_part(Real* p, Vec<Real> v, Index n) {
  const auto* from = reinterpret_cast<const Real*>(&v);
#pragma GCC unroll 4
  for (Index piece = kLanes<Real> / 2; piece > 0; piece /= 2) {
    if (!(n & piece)) continue;
    __builtin_memcpy(p, from, static_cast<std::size_t>(piece) * sizeof(Real));
    p += piece;
    from += piece;
  }
}

// As many of `count` lanes as a register has.
template <class Real>
inline Vec<Real> load_some(const Real* p, Index count) {
  return count >= kLanes<Real> ? load(p) : load_part(p, count);
}
template <class Real>
inline void store_some(Real* p, Vec<Real> v, Index count) {
  if (count >= kLanes<Real>)
    store(p, v);
  else
    store_part(p, v, count);
}

// ---- fused multiply-add: a * b + c, rounded once where the machine has it ----

#if defined(__AVX512F__)
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__AVX2__)
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#elif defined(__aarch64__)
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
template <class V>
inline V fma(V a, V b, V c) {
  return a * b + c;
}
#endif

// ---- square root, correctly rounded ----

#if defined(__AVX512F__)  // maskz, of all lanes: GCC 12 warns of the plain intrinsics' insides
inline Vec<float> sqrt(Vec<float> x) {
  return (Vec<float>)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
}
inline Vec<double> sqrt(Vec<double> x) {
  return (Vec<double>)_mm512_maskz_sqrt_pd(0xff, (__m512d)x);
}
#elif defined(__AVX2__)
inline Vec<float> sqrt(Vec<float> x) {
  return (Vec<float>)_mm256_sqrt_ps((__m256)x);
}
inline Vec<double> sqrt(Vec<double> x) {
  return (Vec<double>)_mm256_sqrt_pd((__m256d)x);
}
#elif defined(__x86_64__)
inline Vec<float> sqrt(Vec<float> x) {
  return (Vec<float>)_mm_sqrt_ps((__m128)x);
}
inline Vec<double> sqrt(Vec<double> x) {
  return (Vec<double>)_mm_sqrt_pd((__m128d)x);
}
#elif defined(__aarch64__)
inline Vec<float> sqrt(Vec<float> x) {
  return (Vec<float>)vsqrtq_f32((float32x4_t)x);
}
inline Vec<double> sqrt(Vec<double> x) {
  return (Vec<double>)vsqrtq_f64((float64x2_t)x);
}
#else
inline Vec<float> sqrt(Vec<float> x) {
  for (int i = 0; i < kLanes<float>; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}
inline Vec<double> sqrt(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
}
#endif

// ---- the smaller and the larger of two, a NaN in x staying one ----

#if defined(__AVX512F__)
inline Vec<float> at_most(Vec<float> x, Vec<float> limit) {
  return (Vec<float>)_mm512_maskz_min_ps(0xffff, (__m512)limit, (__m512)x);
}
inline Vec<float> at_least(Vec<float> x, Vec<float> limit) {
  return (Vec<float>)_mm512_maskz_max_ps(0xffff, (__m512)limit, (__m512)x);
}
inline Vec<double> at_most(Vec<double> x, Vec<double> limit) {
  return (Vec<double>)_mm512_maskz_min_pd(0xff, (__m512d)limit, (__m512d)x);
}
inline Vec<double> at_least(Vec<double> x, Vec<double> limit) {
  return (Vec<double>)_mm512_maskz_max_pd(0xff, (__m512d)limit, (__m512d)x);
}
#elif defined(__AVX2__)
inline Vec<float> at_most(Vec<float> x, Vec<float> limit) {
  return (Vec<float>)_mm256_min_ps((__m256)limit, (__m256)x);
}
inline Vec<float> at_least(Vec<float> x, Vec<float> limit) {
  return (Vec<float>)_mm256_max_ps((__m256)limit, (__m256)x);
}
inline Vec<double> at_most(Vec<double> x, Vec<double> limit) {
  return (Vec<double>)_mm256_min_pd((__m256d)limit, (__m256d)x);
}
inline Vec<double> at_least(Vec<double> x, Vec<double> limit) {
  return (Vec<double>)_mm256_max_pd((__m256d)limit, (__m256d)x);
}
#else
template <class V>
inline V at_most(V x, V limit) {
  return x > limit ? limit : x;
}
template <class V>
inline V at_least(V x, V limit) {
  return x < limit ? limit : x;
}
#endif

// ---- several registers at once ----

// N registers that go through the same arithmetic. A cell is one long chain of operations; N of
// them side by side hide each other's latency.
template <class Real, int N>
struct Wide {
  Vec<Real> part[N];

  static Wide of(Real a) {
    return map([&](int) { return broadcast(a); });
  }
  template <class Function>
  static inline Wide map(Function function) {
    Wide w;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) w.part[i] = function(i);
    return w;
  }

  friend Wide operator+(const Wide& a, const Wide& b) {
    return map([&](int i) { return a.part[i] + b.part[i]; });
  }
  friend Wide operator-(const Wide& a, const Wide& b) {
    return map([&](int i) { return a.part[i] - b.part[i]; });
  }
  friend Wide operator*(const Wide& a, const Wide& b) {
    return map([&](int i) { return a.part[i] * b.part[i]; });
  }
  friend Wide operator/(const Wide& a, const Wide& b) {
    return map([&](int i) { return a.part[i] / b.part[i]; });
  }
  friend Wide operator-(const Wide& a) {
    return map([&](int i) { return -a.part[i]; });
  }
  friend Wide fma(const Wide& a, const Wide& b, const Wide& c) {
    return map([&](int i) { return ::fma(a.part[i], b.part[i], c.part[i]); });
  }
  friend Wide at_most(const Wide& x, Real limit) {
    return map([&](int i) { return ::at_most(x.part[i], broadcast(limit)); });
  }
  friend Wide at_least(const Wide& x, Real limit) {
    return map([&](int i) { return ::at_least(x.part[i], broadcast(limit)); });
  }
  // value where condition > 0, else 0.
  friend Wide where_positive(const Wide& condition, const Wide& value) {
    return map(
        [&](int i) { return condition.part[i] > Vec<Real>{} ? value.part[i] : Vec<Real>{}; });
  }
};

// ---- transposition ----

// UpTo<n> is UpTo<0, 0, 1 ... n - 1>, from which a template can read the indices.
template <Index n, Index... i>
struct UpTo : UpTo<n - 1, n - 1, i...> {};
template <Index... i>
struct UpTo<0, i...> {};

// Lane i of two registers: from the first where bit `block` of i is 0, from the second elsewhere;
// `lower`: the lanes whose bit is the other way round.
template <Index block, bool lower, class V, Index... i>
inline V exchange(V first, V second, UpTo<0, i...>) {
  constexpr Index n = sizeof...(i);
  constexpr Index from[] = {
      (i & block ? (lower ? i + n : i - block + n) : (lower ? i + block : i))...};
#if defined(__clang__)
  return __builtin_shufflevector(first, second, from[i]...);
#else  // GCC has the other from version 12 on
  using Mask = decltype(first < second);
  return __builtin_shuffle(first, second, Mask{from[i]...});
#endif
}

// rows[i][j] <-> rows[j][i] of a square of registers: log2(lanes) rounds that swap off-diagonal
// blocks of 1, 2, 4 ... lanes.
template <class Real, Index block = 1>
inline void transpose(Vec<Real> (&rows)[kLanes<Real>]) {
  constexpr Index lanes = kLanes<Real>;
  if constexpr (block < lanes) {
#pragma GCC unroll 16
    for (Index i = 0; i < lanes; ++i) {
      if (i & block) continue;
      const Vec<Real> first = rows[i], second = rows[i + block];
      rows[i] = exchange<block, false>(first, second, UpTo<lanes>{});
      rows[i + block] = exchange<block, true>(first, second, UpTo<lanes>{});
    }
    transpose<Real, 2 * block>(rows);
  }
}

}  // namespace
