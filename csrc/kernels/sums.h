// SPDX-License-Identifier: MIT
// Sums in an order that no register decides: term i goes to a chain by its number alone, and the
// chains meet in one order. Depends on simd.h.
#pragma once

#include "simd.h"

namespace {

// The sum of n terms. term(i, count), called once for each register of them, gives those from i on,
// with 0 from `count` on. Term i adds to chain i mod (256 bytes' worth) of its block, whatever a
// register holds; the chains of a block meet in double precision.
template <class Real, class Term>
inline double sum_in_order(Index n, Term term) {
  constexpr int registers = 256 / kRegisterBytes;
  constexpr Index lanes = kLanes<Real>, chains = registers * lanes, block = 64 * chains;
  static_assert(256 % kRegisterBytes == 0, "or the chains would depend on the register");
  double total = 0;
  for (Index first = 0; first < n; first += block) {
    const Index end = n - first < block ? n : first + block;
    Vec<Real> acc[registers] = {};
    Index i = first;
    for (; i + chains <= end; i += chains)
#pragma GCC unroll 16
      for (int r = 0; r < registers; ++r) acc[r] += term(i + r * lanes, lanes);
    for (int r = 0; i < end; ++r, i += lanes) acc[r] += term(i, end - i);
    for (int r = 0; r < registers; ++r)
      for (Index lane = 0; lane < lanes; ++lane) total += static_cast<double>(acc[r][lane]);
  }
  return total;
}

// The sum of n terms, few enough for Real. add(chains, i, count) returns one register of chains
// with the terms from i on added to them, with 0 from `count` on. Term i adds to chain i mod (64
// bytes' worth); the chains meet in halves.
template <class Real, class Add>
inline Real sum_by_halves(Index n, Add add) {
  constexpr int registers = 64 / kRegisterBytes;
  constexpr Index lanes = kLanes<Real>, chains = registers * lanes;
  static_assert(64 % kRegisterBytes == 0, "or the chains would depend on the register");
  Vec<Real> sum[registers] = {};
  Index i = 0;
  for (; i + chains <= n; i += chains)
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) sum[r] = add(sum[r], i + r * lanes, lanes);
  // All take part in the rest: lanes of a wide register without any turn a sum of -0 into 0. (None
  // past the end, where no pointer may point.)
  if (i < n)
    for (int r = 0; r < registers; ++r, i += lanes) sum[r] = add(sum[r], i < n ? i : n, n - i);
  Real chain[chains];
#pragma GCC unroll 4
  for (int r = 0; r < registers; ++r) store(chain + r * lanes, sum[r]);
#pragma GCC unroll 4
  for (Index half = chains / 2; half > 0; half /= 2)
    for (Index j = 0; j < half; ++j) chain[j] += chain[j + half];
  return chain[0];
}

// The sum of the n terms of a row, however many: of blocks by halves.
template <class Real, class Add>
inline Real sum_of_row(Index n, Add add) {
  constexpr Index block = 64 * 64 / static_cast<Index>(sizeof(Real));
  Real total = 0;
  for (Index first = 0; first < n; first += block) {
    const Index count = n - first < block ? n - first : block;
    total += sum_by_halves<Real>(
        count, [&](Vec<Real> chains, Index i, Index left) { return add(chains, first + i, left); });
  }
  return total;
}

}  // namespace
