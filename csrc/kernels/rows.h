// SPDX-License-Identifier: MIT
// What a layer does to each row alone, forward and, directly below it, backward: activations,
// softmax, cross-entropy, layer normalisation. A row is the same bits wherever it stands. Depends
// on math.h and sums.h.
#pragma once

#include "math.h"
#include "sums.h"

namespace {

using pygru::CrossEntropy;
using pygru::LayerNorm;
using pygru::LayerNormBackward;
using pygru::Rows;
using pygru::RowsBackward;

// Calls visit(k, count) for each register of K values: those from k on, `count` of which exist.
template <class Real, class Visit>
inline void across(Index K, Visit visit) {
  Index k = 0;
  for (; k + kLanes<Real> <= K; k += kLanes<Real>) visit(k, kLanes<Real>);
  if (k < K) visit(k, K - k);
}

// ---- functions of one number: y = f(x) and dx = dy f'(x), a function of y ----

template <class Real, class Function>
inline void each(const Rows<Real>& f, Function function) {
  constexpr Index lanes = kLanes<Real>;
  const Index count = f.N * f.K;
  Index i = 0;
  for (; i + kOverlap * lanes <= count; i += kOverlap * lanes) {
    const auto x = Wide<Real, kOverlap>::map([&](int r) { return load(f.x + i + r * lanes); });
    const auto y = function(x);
#pragma GCC unroll 8
    for (int r = 0; r < kOverlap; ++r) store(f.y + i + r * lanes, y.part[r]);
  }
  across<Real>(count - i, [&](Index k, Index left) {
    const auto y = function(Wide<Real, 1>{load_some(f.x + i + k, left)});
    store_some(f.y + i + k, y.part[0], left);
  });
}
template <class Real, class Slope>
inline void each_backward(const RowsBackward<Real>& f, Slope slope) {
  across<Real>(f.N * f.K, [&](Index i, Index count) {
    const Vec<Real> y = load_some(f.y + i, count);
    store_some(f.dx + i, load_some(f.dy + i, count) * slope(y), count);
  });
}

template <class Real>
void each_exp(const Rows<Real>& f) {
  each(f, [](const auto& x) { return exp(x); });
}
template <class Real>
void each_exp_backward(const RowsBackward<Real>& f) {
  each_backward(f, [](Vec<Real> y) { return y; });
}

template <class Real>
void each_relu(const Rows<Real>& f) {
  each(f, [](const auto& x) { return at_least(x, Real(0)) + x.of(0); });  // of -0 it is 0
}
template <class Real>
void each_relu_backward(const RowsBackward<Real>& f) {
  each_backward(f, [](Vec<Real> y) { return y > Vec<Real>{} ? broadcast(Real(1)) : Vec<Real>{}; });
}

template <class Real>
void each_sigmoid(const Rows<Real>& f) {
  const Vec<Real> least = broadcast(-ExpConstants<Real>::limit);
  each(f, [=]<int N>(const Wide<Real, N>& x) {
    const auto y = sigmoid(x);  // which below the limit stays what it is there
    return Wide<Real, N>::map([&](int r) { return x.part[r] < least ? Vec<Real>{} : y.part[r]; });
  });
}
template <class Real>
void each_sigmoid_backward(const RowsBackward<Real>& f) {
  each_backward(f, [](Vec<Real> y) { return y * (broadcast(Real(1)) - y); });
}

template <class Real>
void each_tanh(const Rows<Real>& f) {
  each(f, [](const auto& x) { return tanh(x); });
}
template <class Real>
void each_tanh_backward(const RowsBackward<Real>& f) {
  each_backward(f, [](Vec<Real> y) { return broadcast(Real(1)) - y * y; });
}

// ---- softmax: y_k = e^(x_k - max x) / sum_j e^(x_j - max x) ----

template <class Real>
inline Real largest(const Real* x, Index K) {
  Vec<Real> lanes = broadcast(x[0]);
  Index k = 0;
  for (; k + kLanes<Real> <= K; k += kLanes<Real>) lanes = at_least(lanes, load(x + k));
  Real most = lanes[0];
  for (Index lane = 1; lane < kLanes<Real>; ++lane)
    if (lanes[lane] > most) most = lanes[lane];
  for (; k < K; ++k)
    if (x[k] > most) most = x[k];
  return most;
}

// y_k = e^(x_k - max x), of which the largest is 1; returns their sum.
template <class Real>
inline Real exponentials(const Real* x, Real most, Real* y, Index K) {
  const Vec<Real> least = broadcast(-ExpConstants<Real>::limit);  // below it exp() is no smaller
  across<Real>(K, [&](Index k, Index count) {
    const Vec<Real> below = load_some(x + k, count) - most;
    const Vec<Real> e = exp(Wide<Real, 1>{below}).part[0];
    store_some(y + k, below < least ? Vec<Real>{} : e, count);
  });
  return sum_of_row<Real>(
      K, [=](Vec<Real> chains, Index k, Index count) { return chains + load_some(y + k, count); });
}

template <class Real>
void softmax(const Rows<Real>& f) {
  for (Index i = 0; i < f.N; ++i) {
    const Real* const x = f.x + i * f.K;
    Real* const y = f.y + i * f.K;
    const Vec<Real> sum = broadcast(exponentials(x, largest(x, f.K), y, f.K));
    across<Real>(f.K, [&](Index k, Index count) {
      store_some(y + k, load_some(y + k, count) / sum, count);
    });
  }
}

// dx = y (dy - sum_j y_j dy_j)
template <class Real>
void softmax_backward(const RowsBackward<Real>& f) {
  for (Index i = 0; i < f.N; ++i) {
    const Real* const y = f.y + i * f.K;
    const Real* const dy = f.dy + i * f.K;
    const Vec<Real> along =
        broadcast(sum_of_row<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
          return fma(load_some(y + k, count), load_some(dy + k, count), chains);
        }));
    across<Real>(f.K, [&](Index k, Index count) {
      const Vec<Real> dx = load_some(y + k, count) * (load_some(dy + k, count) - along);
      store_some(f.dx + i * f.K + k, dx, count);
    });
  }
}

// ---- cross-entropy of the softmax with one class for each row ----
//
//   loss = log sum_j e^(y_j - max y) - (y_class - max y)      dy = weight (softmax(y) - onehot)
//
// The sum and the rest of the loss are given apart: the logarithm is the caller's.

template <class Real>
void cross_entropy(const CrossEntropy<Real>& f) {
  for (Index i = 0; i < f.N; ++i) {
    const Real* const y = f.y + i * f.K;
    Real* const dy = f.dy + i * f.K;
    const Real most = largest(y, f.K), at_class = y[f.classes[i]], weight = f.weights[i];
    f.sums[i] = exponentials(y, most, dy, f.K);
    f.rests[i] = most - at_class;
    const Vec<Real> factor = broadcast(weight / f.sums[i]);
    across<Real>(f.K, [&](Index k, Index count) {
      store_some(dy + k, load_some(dy + k, count) * factor, count);
    });
    dy[f.classes[i]] -= weight;
  }
}

// ---- layer normalisation (Ba, Kiros & Hinton 2016) ----
//
//   n = (x - mean(x)) scale,   scale = 1 / sqrt(mean((x - mean(x))^2) + eps),   y = w n + b

template <class Real>
void layer_norm(const LayerNorm<Real>& f) {
  const Real count_K = static_cast<Real>(f.K);
  for (Index i = 0; i < f.N; ++i) {
    const Real* const x = f.x + i * f.K;
    Real* const y = f.y + i * f.K;
    Real* const n = f.n ? f.n + i * f.K : y;  // x - mean at first
    const Real sum = sum_of_row<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
      return chains + load_some(x + k, count);
    });
    const Vec<Real> mean = broadcast(sum / count_K);
    across<Real>(f.K, [&](Index k, Index count) {
      store_some(n + k, load_some(x + k, count) - mean, count);
    });
    const Real squares = sum_of_row<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
      const Vec<Real> n_k = load_some(n + k, count);
      return fma(n_k, n_k, chains);
    });
    const Vec<Real> scale = broadcast(Real(1)) / sqrt(broadcast(squares / count_K + f.eps));
    if (f.scale) f.scale[i] = scale[0];
    across<Real>(f.K, [&](Index k, Index count) {
      const Vec<Real> n_k = load_some(n + k, count) * scale;
      if (f.n) store_some(n + k, n_k, count);
      store_some(y + k, fma(load_some(f.w + k, count), n_k, load_some(f.b + k, count)), count);
    });
  }
}

// dn = w dy   dx = (dn - mean(dn) - n mean(dn n)) scale   dw += sum of dy n   db += sum of dy
template <class Real>
void layer_norm_backward(const LayerNormBackward<Real>& f) {
  const Real count_K = static_cast<Real>(f.K);
  for (Index i = 0; f.dx && i < f.N; ++i) {
    const Real* const n = f.n + i * f.K;
    const Real* const dy = f.dy + i * f.K;
    const auto dn = [=](Index k, Index count) {
      return load_some(f.w + k, count) * load_some(dy + k, count);
    };
    const Real sum_dn = sum_of_row<Real>(
        f.K, [=](Vec<Real> chains, Index k, Index count) { return chains + dn(k, count); });
    const Real sum_dn_n = sum_of_row<Real>(f.K, [=](Vec<Real> chains, Index k, Index count) {
      return fma(dn(k, count), load_some(n + k, count), chains);
    });
    const Vec<Real> mean_dn = broadcast(sum_dn / count_K);
    const Vec<Real> minus_mean_dn_n = broadcast(-sum_dn_n / count_K);
    const Vec<Real> scale = broadcast(f.scale[i]);
    across<Real>(f.K, [&](Index k, Index count) {
      const Vec<Real> rest = dn(k, count) - mean_dn;
      const Vec<Real> dx = fma(load_some(n + k, count), minus_mean_dn_n, rest) * scale;
      store_some(f.dx + i * f.K + k, dx, count);
    });
  }
  // Some rows at a time, so that what is added to a large sum is not one small number.
  constexpr Index block = 64;
  for (Index first = 0; first < f.N; first += block) {
    const Index end = f.N - first < block ? f.N : first + block;
    across<Real>(f.K, [&](Index k, Index count) {
      Vec<Real> dw{}, db{};
      for (Index i = first; i < end; ++i) {
        const Vec<Real> dy = load_some(f.dy + i * f.K + k, count);
        dw = fma(dy, load_some(f.n + i * f.K + k, count), dw);
        db += dy;
      }
      store_some(f.dw + k, load_some(f.dw + k, count) + dw, count);
      store_some(f.db + k, load_some(f.db + k, count) + db, count);
    });
  }
}

}  // namespace
