// SPDX-License-Identifier: MIT
// The product of a few rows with a matrix as it lies: packing it would cost more. Depends on
// panels.h.
#pragma once

#include "panels.h"

namespace {

// sums(r)[0..n) += sum_k a(r)[k] W[c, k] for some rows r, k in ascending order; there is room for
// whole registers of sums. W is input-major and read row by row as it lies, once from memory: a few
// of its rows meet up to three of `a` in each pass over their sums. With several rows, the first
// pass over some rows of W brings the next ones closer.
template <class Real, class Sums, class A>
void add_products(Index rows, Sums sums, Index n, Matrix<const Real> W, A a, Index K) {
  constexpr Index lanes = kLanes<Real>;
  const auto pass = [&]<int R, int D>(Constant<R>, Constant<D>, Index r, Index k) {
    Vec<Real> a_k[R][D];
    const Real* from[D];
    Real* to[R];
    for (int d = 0; d < D; ++d) from[d] = W.at(0, k + d);
    for (int i = 0; i < R; ++i) {
      to[i] = sums(r + i);
      for (int d = 0; d < D; ++d) a_k[i][d] = broadcast(a(r + i)[k + d]);
    }
    const auto add = [&]<int count>(Constant<count>, Index c, auto load_weights) {
      Vec<Real> sum[R][count];
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < count; ++j) sum[i][j] = load(to[i] + c + j * lanes);
#pragma GCC unroll 8
      for (int d = 0; d < D; ++d)
#pragma GCC unroll 4
        for (int j = 0; j < count; ++j) {
          const Vec<Real> w = load_weights(from[d] + c + j * lanes);
#pragma GCC unroll 4
          for (int i = 0; i < R; ++i) sum[i][j] = fma(a_k[i][d], w, sum[i][j]);
        }
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < count; ++j) store(to[i] + c + j * lanes, sum[i][j]);
    };
    constexpr int together = R < 3 ? 2 : 1;  // registers of each row, for chains enough
    constexpr Index block = max(together, kLineRegisters) * lanes;
    const auto load_whole = [](const Real* w) { return load(w); };
    const bool fetches = rows > 1 && r == 0 && k + 2 * D <= K;
    const Index next = D * W.column_stride;
    Index c = 0;
    for (; c + block <= n; c += block) {
      for (Index line = c; fetches && line < c + block; line += kLineRegisters * lanes)
#pragma GCC unroll 8
        for (int d = 0; d < D; ++d) fetch_line<For::later>(from[d] + next + line);
#pragma GCC unroll 4
      for (Index at = c; at < c + block; at += together * lanes)
        add(Constant<together>{}, at, load_whole);
    }
    for (; c + lanes <= n; c += lanes) add(Constant<1>{}, c, load_whole);
    if (c < n) add(Constant<1>{}, c, [&](const Real* w) { return load_part(w, n - c); });
  };
  const auto pass_over_rows = [&]<int D>(Constant<D> depth, Index k) {
    Index r = 0;
    for (; r + 3 <= rows; r += 3) pass(Constant<3>{}, depth, r, k);
    if (rows - r == 2) pass(Constant<2>{}, depth, r, k);
    if (rows - r == 1) pass(Constant<1>{}, depth, r, k);
  };
  Index k = 0;
  if (rows == 1)
    for (; k + 8 <= K; k += 8) pass(Constant<1>{}, Constant<8>{}, 0, k);
  for (; k + 4 <= K; k += 4) pass_over_rows(Constant<4>{}, k);
  for (; k < K; ++k) pass_over_rows(Constant<1>{}, k);
}

}  // namespace
