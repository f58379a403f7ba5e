// SPDX-License-Identifier: MIT
// What a kernel is given: sizes, pointers with shape and owner, and the team of threads it runs in.
// Letters as everywhere: T steps, B batch, I inputs, H hidden units, G gates, S slots of the tape;
// lower case is the index. Memory belongs to the caller. A kernel neither allocates nor keeps a
// pointer after it returns. Functions here are always inlined: several instruction sets share them.
#pragma once

#include <cstddef>

namespace pygru {

using Index = std::ptrdiff_t;
static_assert(sizeof(Index) == 8, "the bounds of sizes (bindings/arrays.h) are those of 64 bits");

// The threads that run one kernel together. Every member calls the kernel with the same arguments.
struct Team {
  Index rank = 0;
  Index size = 1;
  void (*wait)(void*) = nullptr;  // returns when every member has called it
  void* barrier = nullptr;

  [[gnu::always_inline]] void sync() const {
    if (size > 1) wait(barrier);
  }
};

// What a team divides: sequences (no barrier between steps, backward some after each chunk of them)
// or hidden units (one per phase).
enum class Split { sequences, units };

struct Shape {
  Index T, B, I, H;
};

// A (T, B, n) array with any strides for time and batch; the last axis is contiguous.
template <class Real>
struct Sequence {
  Real* data = nullptr;
  Index t_stride = 0;
  Index b_stride = 0;

  [[gnu::always_inline]] Real* at(Index t, Index b) const {
    return data + t * t_stride + b * b_stride;
  }
  [[gnu::always_inline]] explicit operator bool() const { return data != nullptr; }
};

// A (B, n) array with any stride for the batch; the last axis is contiguous.
template <class Real>
struct Batch {
  Real* data = nullptr;
  Index b_stride = 0;

  [[gnu::always_inline]] Real* at(Index b) const { return data + b * b_stride; }
  [[gnu::always_inline]] explicit operator bool() const { return data != nullptr; }
};

// A (rows, columns) array with any two strides.
template <class Real>
struct Matrix {
  Real* data = nullptr;
  Index row_stride = 0;
  Index column_stride = 0;

  [[gnu::always_inline]] Real* at(Index row, Index column) const {
    return data + row * row_stride + column * column_stride;
  }
  [[gnu::always_inline]] explicit operator bool() const { return data != nullptr; }
};

// Which sequences are alive at a step. With lengths, `order` lists the sequences from the longest
// to the shortest, so that those alive at step t are the first active[t] of it; all are null
// without.
struct Lengths {
  const Index* length = nullptr;  // (B,)
  const Index* order = nullptr;   // (B,)
  const Index* active = nullptr;  // (T,)

  [[gnu::always_inline]] Index row(Index i) const { return order ? order[i] : i; }
  [[gnu::always_inline]] Index alive(Index t, Index B) const { return active ? active[t] : B; }
  [[gnu::always_inline]] Index of(Index b, Index T) const { return length ? length[b] : T; }
};

// One layer in one direction. W and U may lie in memory either way round.
template <class Real>
struct Weights {
  Matrix<const Real> W;       // (G*H, I)
  Matrix<const Real> U;       // (G*H, H)
  const Real* b_x = nullptr;  // (G*H,) or null
  const Real* b_h = nullptr;  // (G*H,) or null
};

template <class Real>
struct Forward {
  Shape shape;
  Lengths lengths;
  const Index* cuts = nullptr;  // (team + 1,) the sequences of each member, where those are split
  Split split = Split::sequences;
  bool reverse = false;
  Sequence<const Real> x;        // (T, B, I)
  Batch<const Real> h_0;         // (B, H) or null for zeros
  Index steps_before = 0;        // in a stream: odd and even steps read U from opposite ends
  const void* packed = nullptr;  // from pack_forward()
  Sequence<Real> y;              // (T, B, H)     out
  Batch<Real> h_n;               // (B, H)        out
  Sequence<Real> tape;           // (T, B, S, H)  out, or null when no gradient is wanted
  void* scratch = nullptr;       // forward_scratch_bytes(), shared by the team
};

template <class Real>
struct Backward {
  Shape shape;
  Lengths lengths;
  const Index* cuts = nullptr;  // (team + 1,) the sequences of each member, where those are split
  Split split = Split::sequences;
  bool reverse = false;
  Sequence<const Real> x;        // (T, B, I)
  Sequence<const Real> y;        // (T, B, H)
  Batch<const Real> h_0;         // (B, H) or null
  const void* packed = nullptr;  // from pack_backward()
  Sequence<Real> tape;           // (T, B, S, H)  in; overwritten with the gates' gradients
  Sequence<const Real> dy;       // (T, B, H) or null
  Batch<const Real> dh_n;        // (B, H) or null
  Sequence<Real> dx;             // (T, B, I)  out, or null
  Batch<Real> dh_0;              // (B, H)     out, or null
  Matrix<Real> dW;               // (G*H, I)   added to; input-major: row_stride is 1
  Matrix<Real> dU;               // (G*H, H)   added to; input-major
  Real* db_x = nullptr;          // (G*H,)     added to, or null
  Real* db_h = nullptr;          // (G*H,)     added to, or null
  void* scratch = nullptr;       // backward_scratch_bytes(), shared by the team
};

// y = x W^T + b on N rows.
template <class Real>
struct Linear {
  Index N = 0, K = 0, M = 0;
  Matrix<const Real> x;          // (N, K)
  const void* packed = nullptr;  // from pack()
  Matrix<Real> y;                // (N, M)  out
};

template <class Real>
struct LinearBackward {
  Index N = 0, K = 0, M = 0;
  Matrix<const Real> x;     // (N, K)
  Matrix<const Real> W;     // (M, K)
  Matrix<const Real> dy;    // (N, M)
  Matrix<Real> dx;          // (N, K)  out, or null
  Matrix<Real> dW;          // (M, K)  added to; input-major
  Real* db = nullptr;       // (M,)    added to, or null
  void* scratch = nullptr;  // backward_scratch_bytes(), shared by the team
};

// y = f(x) on N rows of K values, contiguous; y may be x. See rows.h.
template <class Real>
struct Rows {
  Index N = 0, K = 0;
  const Real* x = nullptr;  // (N, K)
  Real* y = nullptr;        // (N, K)  out
};

// dx = dy f'(x), found from y.
template <class Real>
struct RowsBackward {
  Index N = 0, K = 0;
  const Real* y = nullptr;   // (N, K)
  const Real* dy = nullptr;  // (N, K)
  Real* dx = nullptr;        // (N, K)  out
};

// Cross-entropy of N rows of K scores, contiguous, with one class for each; see rows.h.
template <class Real>
struct CrossEntropy {
  Index N = 0, K = 0;
  const Real* y = nullptr;         // (N, K)
  const Index* classes = nullptr;  // (N,)    below K
  const Real* weights = nullptr;   // (N,)
  Real* dy = nullptr;              // (N, K)  out
  Real* sums = nullptr;            // (N,)    out: loss = log(sum) + rest
  Real* rests = nullptr;           // (N,)    out
};

// Layer normalisation of N rows of K values, contiguous; y may be x. See rows.h.
template <class Real>
struct LayerNorm {
  Index N = 0, K = 0;
  const Real* x = nullptr;  // (N, K)
  const Real* w = nullptr;  // (K,)
  const Real* b = nullptr;  // (K,)
  Real eps = 0;
  Real* y = nullptr;      // (N, K)  out
  Real* n = nullptr;      // (N, K)  out, or null when no gradient is wanted
  Real* scale = nullptr;  // (N,)    out, or null
};

template <class Real>
struct LayerNormBackward {
  Index N = 0, K = 0;
  const Real* n = nullptr;      // (N, K)
  const Real* scale = nullptr;  // (N,)
  const Real* w = nullptr;      // (K,)
  const Real* dy = nullptr;     // (N, K)
  Real* dx = nullptr;           // (N, K)  out, or null
  Real* dw = nullptr;           // (K,)    added to
  Real* db = nullptr;           // (K,)    added to
};

// One step of Adam on n parameters; see flat.h.
template <class Real>
struct Adam {
  Index n = 0;
  Real* p = nullptr;        // (n,)  parameters, updated
  const Real* g = nullptr;  // (n,)  gradients
  Real* m = nullptr;        // (n,)  first moments, updated
  Real* v = nullptr;        // (n,)  second moments, updated
  Real rate = 0, beta_1 = 0, beta_2 = 0, eps = 0, decay = 1;
};

// y - target, of which there is a loss, and room for its gradient. See flat.h.
template <class Real>
struct Residuals {
  Index n = 0;
  const Real *y = nullptr, *target = nullptr;  // (n,)
  Real* dy = nullptr;                          // (n,)  out: d loss / d y, times scale
  Real scale = 1;                              // 1 / elements for a mean
  Real delta = 0;                              // of Huber's loss
};

}  // namespace pygru
