// SPDX-License-Identifier: MIT
// exp, sigmoid and tanh on registers, for any input: finite in, finite out; they saturate, and only
// a NaN gives a NaN. Depends on simd.h alone.
//
// exp(x) = 2^k (1 + p(r)), k = round(x / ln 2), r = x - k ln 2 in [-ln 2 / 2, ln 2 / 2]. ln 2 is
// split in two (Cody & Waite, Software Manual for the Elementary Functions, 1980) so that r is
// exact to a fraction of an ulp; p(r) = e^r - 1 is r + r^2 q(r). q for float: minimax of degree 4
// as in Cephes expf (Moshier); for double: the Taylor series to r^13, whose remainder is 4e-18 on
// this range. tanh(x) = p / (p + 2) with p = e^2x - 1 computed without cancellation, so it is exact
// to a few ulp near 0 too. Measured over every float (tests/test_math.py): see the table in
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
  static constexpr std::int32_t bias = 127;
  static constexpr int mantissa_bits = 23;
  static constexpr int degree = 5;
  static constexpr float q[degree + 1] = {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f,
                                          8.3334519073e-3f, 1.3981999507e-3f, 1.9875691500e-4f};
};

template <>
struct ExpConstants<double> {
  static constexpr double inverse_ln2 = 1.44269504088896338700;
  static constexpr double ln2_high = 6.93145751953125e-1;
  static constexpr double ln2_low = 1.42860682030941723212e-6;
  static constexpr double limit = 708.0;
  static constexpr double tanh_limit = 40.0;
  static constexpr double round_shift = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr std::int64_t bias = 1023;
  static constexpr int mantissa_bits = 52;
  static constexpr int degree = 11;
  static constexpr double q[degree + 1] = {
      1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,      1.0 / 720,       1.0 / 5040,
      1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
};

// e^x = scale * (1 + p), for |x| <= limit.
template <class Real>
struct ScaledExp {
  Vec<Real> scale;
  Vec<Real> p;
};

template <class Real>
inline ScaledExp<Real> scaled_exp(Vec<Real> x) {
  using C = ExpConstants<Real>;
  const Vec<Real> shift = broadcast(C::round_shift);
  const Vec<Real> shifted = fma(x, broadcast(C::inverse_ln2), shift);
  const Vec<Real> k = shifted - shift;
  Vec<Real> r = fma(k, broadcast(-C::ln2_high), x);
  r = fma(k, broadcast(-C::ln2_low), r);
  Vec<Real> q = broadcast(C::q[C::degree]);
#pragma GCC unroll 16
  for (int i = C::degree - 1; i >= 0; --i) q = fma(q, r, broadcast(C::q[i]));
  // The low bits of `shifted` hold the integer k; moved into the exponent field they make 2^k.
  const Bits<Real> exponent = ((Bits<Real>)shifted + C::bias) << C::mantissa_bits;
  return {(Vec<Real>)exponent, fma(q, r * r, r)};
}

// Keeps x in [-limit, limit]; a NaN stays one.
template <class Real>
inline Vec<Real> clamp(Vec<Real> x, Real limit) {
  const Vec<Real> high = broadcast(limit), low = broadcast(-limit);
  x = x > high ? high : x;
  return x < low ? low : x;
}

template <class Real>
inline Vec<Real> exp(Vec<Real> x) {
  const ScaledExp<Real> e = scaled_exp<Real>(clamp<Real>(x, ExpConstants<Real>::limit));
  return fma(e.scale, e.p, e.scale);
}

template <class Real>
inline Vec<Real> sigmoid_of(Vec<Real> x) {
  const Vec<Real> one = broadcast(Real(1));
  return one / (one + exp<Real>(-x));
}

template <class Real>
inline Vec<Real> tanh_of(Vec<Real> x) {
  const Vec<Real> one = broadcast(Real(1));
  const ScaledExp<Real> e = scaled_exp<Real>(clamp<Real>(x + x, ExpConstants<Real>::tanh_limit));
  const Vec<Real> p = fma(e.scale, e.p, e.scale - one);  // e^2x - 1
  return p / (p + broadcast(Real(2)));
}

// Overloads, so that a cell writes sigmoid(s) whatever the type.
inline Vec<float> sigmoid(Vec<float> x) {
  return sigmoid_of<float>(x);
}
inline Vec<double> sigmoid(Vec<double> x) {
  return sigmoid_of<double>(x);
}
inline Vec<float> tanh(Vec<float> x) {
  return tanh_of<float>(x);
}
inline Vec<double> tanh(Vec<double> x) {
  return tanh_of<double>(x);
}

}  // namespace
