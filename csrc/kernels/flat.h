// SPDX-License-Identifier: MIT
// Passes over flat buffers: Adam, the sum of products that norms are, and losses of residuals with
// their gradients. Multiplications and additions are not fused, so that every instruction set gives
// the same bits.
//
// Adam (Kingma & Ba 2015), one pass:
//
//   m = beta_1 m + g        v = beta_2 v + g^2        p = decay p - rate m / (sqrt(v) + eps)
//
// The moments are kept without their factors 1 - beta; those, the bias corrections and the learning
// rate meet in `rate` and `eps` (pygru/optim.py). decay is 1, or less for AdamW (Loshchilov &
// Hutter 2019). Depends on sums.h.
#pragma once

#include "sums.h"

namespace {

using pygru::Adam;
using pygru::Residuals;

template <class Real>
void adam(const Adam<Real>& a) {
  const Vec<Real> beta_1 = broadcast(a.beta_1), beta_2 = broadcast(a.beta_2);
  const Vec<Real> rate = broadcast(a.rate), eps = broadcast(a.eps), decay = broadcast(a.decay);
  for (Index i = 0; i < a.n; i += kLanes<Real>) {
    const Index count = a.n - i;
    const Vec<Real> g = load_some(a.g + i, count);
    const Vec<Real> m = beta_1 * load_some(a.m + i, count) + g;
    const Vec<Real> v = beta_2 * load_some(a.v + i, count) + g * g;
    store_some(a.m + i, m, count);
    store_some(a.v + i, v, count);
    const Vec<Real> p = decay * load_some(a.p + i, count);
    store_some(a.p + i, p - rate * m / (sqrt(v) + eps), count);
  }
}

template <class Real>
double dot(const Real* a, const Real* b, Index n) {
  return sum_in_order<Real>(
      n, [=](Index i, Index count) { return load_some(a + i, count) * load_some(b + i, count); });
}

template <class Real>
struct LossAndSlope {
  Vec<Real> loss, slope;
};

// The sum of the losses of e = y - target, and dy = d loss / d e times `scale`. of(e) gives the
// loss and its slope for one register.
template <class Real, class Of>
inline double sum_losses(const Residuals<Real>& r, Real scale, Of of) {
  return sum_in_order<Real>(r.n, [&](Index i, Index count) {
    const LossAndSlope<Real> at = of(load_some(r.y + i, count) - load_some(r.target + i, count));
    store_some(r.dy + i, at.slope * broadcast(scale), count);
    return at.loss;
  });
}

template <class Real>
double mae(const Residuals<Real>& r) {
  return sum_losses(r, r.scale, [](Vec<Real> e) -> LossAndSlope<Real> {
    const Vec<Real> zero{}, one = broadcast(Real{1});
    const Vec<Real> sign = e > zero ? one : (e < zero ? -one : e);  // 0 and NaN are their own
    return {sign * e, sign};
  });
}

template <class Real>
double mse(const Residuals<Real>& r) {
  return sum_losses(r, 2 * r.scale, [](Vec<Real> e) -> LossAndSlope<Real> { return {e * e, e}; });
}

// e^2 / 2 up to delta, from there on delta (|e| - delta / 2).
template <class Real>
double huber(const Residuals<Real>& r) {
  const Vec<Real> delta = broadcast(r.delta), half = broadcast(Real{0.5});
  return sum_losses(r, r.scale, [=](Vec<Real> e) -> LossAndSlope<Real> {
    const Vec<Real> clipped = at_least(at_most(e, delta), -delta);
    return {clipped * (e - half * clipped), clipped};
  });
}

}  // namespace
