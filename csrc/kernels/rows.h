// SPDX-License-Identifier: MIT
// What a layer does to each row alone: activations, softmax, layer normalisation and its gradient.
//
//   softmax    y_k = e^(x_k - max x) / sum_j e^(x_j - max x)
//   LayerNorm  n = (x - mean(x)) scale    scale = 1 / sqrt(mean((x - mean(x))^2) + eps)
//              y = w n + b                                     (Ba, Kiros & Hinton 2016)
//
// A row is the same bits wherever it stands. Depends on math.h and sums.h.
#pragma once

#include "math.h"
#include "sums.h"

namespace {

using pygru::LayerNorm;
using pygru::LayerNormBackward;
using pygru::Rows;

// Calls visit(k, count) for each register of K values: those from k on, `count` of which exist.
template <class Real, class Visit>
inline void across(Index K, Visit visit) {
  Index k = 0;
  for (; k + kLanes<Real> <= K; k += kLanes<Real>) visit(k, kLanes<Real>);
  if (k < K) visit(k, K - k);
}

// ---- functions of one number ----

template <class Real, class Function>
inline void each(const Rows<Real>& f, Function function) {
  constexpr int N = kOverlap;
  constexpr Index lanes = kLanes<Real>;
  const Index count = f.N * f.K;
  Index i = 0;
  for (; i + N * lanes <= count; i += N * lanes) {
    const auto y = function(Wide<Real, N>::map([&](int n) { return load(f.x + i + n * lanes); }));
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) store(f.y + i + n * lanes, y.part[n]);
  }
  across<Real>(count - i, [&](Index k, Index left) {
    const auto y = function(Wide<Real, 1>{load_some(f.x + i + k, left)});
    store_some(f.y + i + k, y.part[0], left);
  });
}
template <class Real>
void each_exp(const Rows<Real>& f) {
  each(f, [](const auto& x) { return exp(x); });
}
template <class Real>
void each_relu(const Rows<Real>& f) {
  each(f, [](const auto& x) { return at_least(x, Real(0)); });
}
template <class Real>
void each_sigmoid(const Rows<Real>& f) {
  each(f, [](const auto& x) { return sigmoid(x); });
}
template <class Real>
void each_tanh(const Rows<Real>& f) {
  each(f, [](const auto& x) { return tanh(x); });
}

// ---- softmax ----

template <class Real>
inline Real largest(const Real* x, Index K) {
  Vec<Real> most = broadcast(x[0]);
  Index k = 0;
  for (; k + kLanes<Real> <= K; k += kLanes<Real>) most = at_least(most, load(x + k));
  Real largest = most[0];
  for (Index lane = 1; lane < kLanes<Real>; ++lane)
    if (most[lane] > largest) largest = most[lane];
  for (; k < K; ++k)
    if (x[k] > largest) largest = x[k];
  return largest;
}

template <class Real>
void softmax(const Rows<Real>& f) {
  const Vec<Real> least = broadcast(-ExpConstants<Real>::limit);  // below it exp() is no smaller
  for (Index i = 0; i < f.N; ++i) {
    const Real* const x = f.x + i * f.K;
    Real* const y = f.y + i * f.K;
    const Vec<Real> most = broadcast(largest(x, f.K));
    across<Real>(f.K, [&](Index k, Index count) {
      const Vec<Real> below = load_some(x + k, count) - most;
      const Vec<Real> e = exp(Wide<Real, 1>{below}).part[0];
      store_some(y + k, below < least ? Vec<Real>{} : e, count);
    });
    const Vec<Real> sum =
        broadcast(sum_by_halves<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
          return chains + load_some(y + k, count);
        }));
    across<Real>(f.K, [&](Index k, Index count) {
      store_some(y + k, load_some(y + k, count) / sum, count);
    });
  }
}

// ---- layer normalisation ----

template <class Real>
void layer_norm(const LayerNorm<Real>& f) {
  const Real K = static_cast<Real>(f.K);
  for (Index i = 0; i < f.N; ++i) {
    const Real* const x = f.x + i * f.K;
    Real* const y = f.y + i * f.K;
    Real* const n = f.n ? f.n + i * f.K : y;
    const Real sum = sum_by_halves<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
      return chains + load_some(x + k, count);
    });
    const Vec<Real> mean = broadcast(sum / K);
    across<Real>(f.K, [&](Index k, Index count) {
      store_some(n + k, load_some(x + k, count) - mean, count);
    });
    const Real squares = sum_by_halves<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
      const Vec<Real> one = load_some(n + k, count);
      return fma(one, one, chains);
    });
    const Vec<Real> scale = broadcast(Real(1)) / sqrt(broadcast(squares / K + f.eps));
    if (f.scale) f.scale[i] = scale[0];
    across<Real>(f.K, [&](Index k, Index count) {
      const Vec<Real> one = load_some(n + k, count) * scale;
      if (f.n) store_some(n + k, one, count);
      store_some(y + k, fma(load_some(f.w + k, count), one, load_some(f.b + k, count)), count);
    });
  }
}

// dn = w dy; dx = (dn - mean(dn) - n mean(dn n)) scale. dw and db are chains over the rows.
template <class Real>
void layer_norm_backward(const LayerNormBackward<Real>& f) {
  const Real K = static_cast<Real>(f.K);
  for (Index i = 0; i < f.N; ++i) {
    const Real* const n = f.n + i * f.K;
    const Real* const dy = f.dy + i * f.K;
    across<Real>(f.K, [&](Index k, Index count) {
      const Vec<Real> one = load_some(dy + k, count);
      const Vec<Real> dw = fma(one, load_some(n + k, count), load_some(f.dw + k, count));
      store_some(f.dw + k, dw, count);
      store_some(f.db + k, load_some(f.db + k, count) + one, count);
    });
    if (!f.dx) continue;
    const auto dn = [=](Index k, Index count) {
      return load_some(f.w + k, count) * load_some(dy + k, count);
    };
    const Real sum = sum_by_halves<Real>(
        f.K, [=](Vec<Real> chains, Index k, Index count) { return chains + dn(k, count); });
    const Real along = sum_by_halves<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
      return fma(dn(k, count), load_some(n + k, count), chains);
    });
    const Vec<Real> mean = broadcast(sum / K), slope = broadcast(-along / K);
    const Vec<Real> scale = broadcast(f.scale[i]);
    across<Real>(f.K, [&](Index k, Index count) {
      const Vec<Real> dx = fma(load_some(n + k, count), slope, dn(k, count) - mean) * scale;
      store_some(f.dx + i * f.K + k, dx, count);
    });
  }
}

}  // namespace
