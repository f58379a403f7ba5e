// SPDX-License-Identifier: MIT
// Adam (Kingma & Ba 2015), one pass over the flat buffers:
//
//   m = beta_1 m + g        v = beta_2 v + g^2        p = decay p - rate m / (sqrt(v) + eps)
//
// The moments are kept without their factors 1 - beta; those, the bias corrections and the learning
// rate meet in `rate` and `eps` (pygru/optim.py). decay is 1, or less for AdamW (Loshchilov &
// Hutter 2019). Depends on simd.h.
#pragma once

#include "simd.h"

namespace {

using pygru::Adam;

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

}  // namespace
