// SPDX-License-Identifier: MIT
// Passes over flat buffers: Adam, and the sum of products that norms and mean losses are.
// Multiplications and additions are not fused, so that every instruction set gives the same bits.
//
// Adam (Kingma & Ba 2015), one pass:
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

// sum of a[i] b[i]. Element i adds to chain i mod (256 bytes' worth) of its block, whatever a
// register holds; the chains of a block meet in double precision.
template <class Real>
double dot(const Real* a, const Real* b, Index n) {
  constexpr int registers = 256 / kRegisterBytes;
  constexpr Index lanes = kLanes<Real>, chains = registers * lanes, block = 64 * chains;
  static_assert(256 % kRegisterBytes == 0, "or the chains would depend on the register");
  double total = 0;
  for (Index first = 0; first < n; first += block) {
    const Index end = n - first < block ? n : first + block;
    Vec<Real> acc[registers] = {};
    for (Index i = first; i < end; i += chains)
#pragma GCC unroll 16
      for (int r = 0; r < registers; ++r) {
        const Index at = i + r * lanes;
        if (at + lanes <= end)
          acc[r] += load(a + at) * load(b + at);
        else if (at < end)
          acc[r] += load_part(a + at, end - at) * load_part(b + at, end - at);
      }
    for (int r = 0; r < registers; ++r)
      for (Index lane = 0; lane < lanes; ++lane) total += static_cast<double>(acc[r][lane]);
  }
  return total;
}

}  // namespace
