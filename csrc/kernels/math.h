// SPDX-License-Identifier: MIT
// exp, sigmoid and tanh on registers, for any input: finite in, finite out; they saturate, and only
// a NaN gives a NaN. Depends on simd.h alone.
//
// exp(x) = 2^k (1 + p(r)), k = round(x / ln 2), r = x - k ln 2 in [-ln 2 / 2, ln 2 / 2]. ln 2 is
// split in two (Cody & Waite, Software Manual for the Elementary Functions, 1980) so that r is
// exact to a fraction of an ulp; p(r) = e^r - 1 is r + r^2 q(r), with q the minimax polynomial of
// the relative error of 1 + p, by the Remez algorithm in 50 digits: 0.05 half-ulps of float from
// degree 4, 0.03 of double from degree 9. What waits for each other decides how fast a cell is, so
// q is summed by pairs of coefficients, in powers of r^2. tanh(x) = p / (p + 2) with p = e^2x - 1
// computed without cancellation, so it is exact to a few ulp near 0 too. The errors measured are in
// csrc/README.md.
#pragma once

#include "simd.h"

namespace {

template <class Real>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float inverse_ln2 = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693359375f;
  static constexpr float ln2_low = -2.12194440e-4f;
  static constexpr float limit = 87.0f;              // e^87 and e^-87 are both normal numbers
  static constexpr float tanh_limit = 20.0f;         // tanh(10) rounds to 1
  static constexpr float round_shift = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) below
  static constexpr std::uint32_t bias = 127;
  static constexpr int mantissa_bits = 23;
  static constexpr int degree = 4;
  static constexpr float q[degree + 1] = {4.99999934478e-1f, 1.66665206317e-1f, 4.16683880470e-2f,
                                          8.36871687869e-3f, 1.38145985621e-3f};
};

template <>
struct ExpConstants<double> {
  static constexpr double inverse_ln2 = 1.44269504088896338700;
  static constexpr double ln2_high = 6.93145751953125e-1;
  static constexpr double ln2_low = 1.42860682030941723212e-6;
  static constexpr double limit = 708.0;
  static constexpr double tanh_limit = 40.0;
  static constexpr double round_shift = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr std::uint64_t bias = 1023;
  static constexpr int mantissa_bits = 52;
  static constexpr int degree = 9;
  static constexpr double q[degree + 1] = {0.50000000000000106272,    0.16666666666666412517,
                                           0.041666666666530158294,   0.0083333333334944654514,
                                           0.0013888888943630203141,  0.00019841269506569920212,
                                           0.00002480149309880727787, 2.7557586382096050661e-6,
                                           2.7630248415145148001e-7,  2.5000058878140855095e-8};
};

// e^x = scale * (1 + p), for |x| <= limit.
template <class Real, int N>
struct ScaledExp {
  Wide<Real, N> scale, p;
};

// 2^k where the low bits of `shifted`, which is k + round_shift, hold the integer k: they are moved
// into the exponent field. A NaN may hold any bits there, and wraps around.
template <class Real, int N>
[[gnu::always_inline]] inline Wide<Real, N> power_of_two(const Wide<Real, N>& shifted) {
  using C = ExpConstants<Real>;
  return Wide<Real, N>::map([&](int i) {
    const Bits<Real> exponent = ((Bits<Real>)shifted.part[i] + C::bias) << C::mantissa_bits;
    return (Vec<Real>)exponent;
  });
}

template <class Real, int N>
[[gnu::always_inline]] inline ScaledExp<Real, N> scaled_exp(const Wide<Real, N>& x) {
  using C = ExpConstants<Real>;
  using V = Wide<Real, N>;
  const V shifted = fma(x, V::of(C::inverse_ln2), V::of(C::round_shift));
  const V k = shifted - V::of(C::round_shift);
  V r = fma(k, V::of(-C::ln2_high), x);
  r = fma(k, V::of(-C::ln2_low), r);
  const V r_2 = r * r;
  const auto pair = [&](int i) {  // q[i] + q[i + 1] r
    return i < C::degree ? fma(V::of(C::q[i + 1]), r, V::of(C::q[i])) : V::of(C::q[i]);
  };
  constexpr int last = C::degree / 2 * 2;
  V q = pair(last);
#pragma GCC unroll 16
  for (int i = last - 2; i >= 0; i -= 2) q = fma(q, r_2, pair(i));
  return {power_of_two(shifted), fma(q, r_2, r)};
}

template <class Real, int N>
[[gnu::always_inline]] inline Wide<Real, N> exp(const Wide<Real, N>& x) {
  constexpr Real limit = ExpConstants<Real>::limit;
  const ScaledExp<Real, N> e = scaled_exp(at_least(at_most(x, limit), -limit));
  return fma(e.scale, e.p, e.scale);
}

template <class Real, int N>
[[gnu::always_inline]] inline Wide<Real, N> sigmoid(const Wide<Real, N>& x) {
  constexpr Real limit = ExpConstants<Real>::limit;
  const auto one = Wide<Real, N>::of(1);
  const ScaledExp<Real, N> e = scaled_exp(-at_least(at_most(x, limit), -limit));
  return one / fma(e.scale, e.p, e.scale + one);
}

template <class Real, int N>
[[gnu::always_inline]] inline Wide<Real, N> tanh(const Wide<Real, N>& x) {
  using V = Wide<Real, N>;
  constexpr Real limit = ExpConstants<Real>::tanh_limit;
  const ScaledExp<Real, N> e = scaled_exp(at_least(at_most(x + x, limit), -limit));
  const V p = fma(e.scale, e.p, e.scale - V::of(1));  // e^2x - 1
  return p / (p + V::of(2));
}

}  // namespace
