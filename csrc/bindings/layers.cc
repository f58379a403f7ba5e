// SPDX-License-Identifier: MIT
// Layers forward and backward: checks the arrays, makes one call, without the GIL where it is long.
#include "../runtime/layer.h"

#include <array>
#include <vector>

#include "../runtime/isa.h"
#include "../runtime/thread_count.h"
#include "arrays.h"
#include "gil.h"
#include "register.h"

namespace pygru {
namespace {

// What a direction is given as, in the order of `pygru/_core.pyi`: plain tuples, because a named
// one takes a microsecond to make.
namespace forward_run {
enum { reverse, W, U, b_x, b_h, h_0, y, h_n, tape, entries };
}
namespace backward_run {
enum { reverse, W, U, h_0, y, tape, dy, dh_n, dx, dh_0, dW, dU, db_x, db_h, entries };
}

// The sizes of a call: T, B, I from x (T, B, I), H from U (G*H, H).
Shape shape_of(const py::array& x, py::handle recurrent_weights) {
  if (x.ndim() != 3) throw std::invalid_argument("_core: x must be of shape (T, B, I)");
  const auto U = py::isinstance<py::array>(recurrent_weights)
                     ? py::reinterpret_borrow<py::array>(recurrent_weights)
                     : py::array();
  if (U.ndim() != 2) throw std::invalid_argument("_core: U must be of shape (G*H, H)");
  return {x.shape(0), x.shape(1), x.shape(2), U.shape(1)};
}

// Copied: while the GIL is dropped somebody may write to theirs.
std::vector<Index> lengths_of(py::handle lengths, Shape s) {
  const View<Index> view(lengths, "lengths", "(B,)", {s.B}, Access::read, true);
  const Index* const given = view.vector();
  std::vector<Index> copy;
  if (given) copy.assign(given, given + s.B);
  for (const Index length : copy)
    if (length < 0 || length > s.T)
      throw std::invalid_argument("_core: lengths must be from 0 to T");
  return copy;
}

// The work of a forward pass, if no sequence is shorter than the longest.
template <class Real, class Run>
double work_of(Cell cell, const std::vector<Run>& runs) {
  const double each = cell_work(cell_of<Real>(kernels(), cell).gates, runs[0].args.shape);
  return each * static_cast<double>(runs.size());
}

void check_most(Index most) {
  if (most < 1)
    throw std::invalid_argument("_core: most must be at least 1, got " + std::to_string(most));
}

std::vector<py::tuple> tuples(const py::list& runs, std::size_t entries) {
  std::vector<py::tuple> out;
  for (const auto& run : runs) {
    out.push_back(py::cast<py::tuple>(run));
    if (out.back().size() != entries)
      throw std::invalid_argument("_core: each run must have " + std::to_string(entries) +
                                  " entries");
  }
  if (out.empty() || out.size() > 2)
    throw std::invalid_argument("_core: runs must hold one direction or two");
  return out;
}

void forward(const std::string& cell_name, const py::array& x, py::handle lengths,
             const py::list& runs, Index most) {
  namespace at = forward_run;
  check_most(most);
  const Cell cell = named<Cell>("cell", cell_name, kCellNames);
  with_dtype(x, "x", [&](auto real) {
    using Real = decltype(real);
    const CellKernels<Real>& kernel = cell_of<Real>(kernels(), cell);
    const Index G = kernel.gates, S = kernel.slots;
    std::vector<ForwardRun<Real>> calls;
    std::vector<Index> length;
    const auto given = tuples(runs, at::entries);  // keeps the arrays while the GIL is dropped
    for (const py::tuple& run : given) {
      const Shape s = shape_of(x, run[at::U]);
      const auto [T, B, I, H] = s;
      length = lengths_of(lengths, s);
      using V = View<Real>;
      constexpr auto in = Access::read, out = Access::write;
      ForwardRun<Real> call;
      call.weights = {constant(V(run[at::W], "W", "(G*H, I)", {G * H, I}, in).matrix()),
                      constant(V(run[at::U], "U", "(G*H, H)", {G * H, H}, in).matrix()),
                      V(run[at::b_x], "b_x", "(G*H,)", {G * H}, in, true).vector(),
                      V(run[at::b_h], "b_h", "(G*H,)", {G * H}, in, true).vector()};
      Forward<Real>& a = call.args;
      a.shape = s;
      a.reverse = run[at::reverse].cast<bool>();
      a.x = constant(V(x, "x", "(T, B, I)", {T, B, I}, in).sequence());
      a.h_0 = constant(V(run[at::h_0], "h_0", "(B, H)", {B, H}, in, true).batch());
      a.y = V(run[at::y], "y", "(T, B, H)", {T, B, H}, out).sequence();
      a.h_n = V(run[at::h_n], "h_n", "(B, H)", {B, H}, out).batch();
      a.tape = V(run[at::tape], "tape", "(T, B, S, H)", {T, B, S, H}, out, true).tape(H);
      calls.push_back(call);
    }
    in_team_without_gil(work_of<Real>(cell, calls), [&] {
      run_forward(cell, length.empty() ? nullptr : length.data(), calls, most);
    });
  });
}

void backward(const std::string& cell_name, const py::array& x, py::handle lengths,
              const py::list& runs, Index most) {
  namespace at = backward_run;
  check_most(most);
  const Cell cell = named<Cell>("cell", cell_name, kCellNames);
  with_dtype(x, "x", [&](auto real) {
    using Real = decltype(real);
    const CellKernels<Real>& kernel = cell_of<Real>(kernels(), cell);
    const Index G = kernel.gates, S = kernel.slots;
    std::vector<BackwardRun<Real>> calls;
    std::vector<Index> length;
    const auto given = tuples(runs, at::entries);  // keeps the arrays while the GIL is dropped
    for (const py::tuple& run : given) {
      const Shape s = shape_of(x, run[at::U]);
      const auto [T, B, I, H] = s;
      length = lengths_of(lengths, s);
      using V = View<Real>;
      constexpr auto in = Access::read, out = Access::write;
      BackwardRun<Real> call;
      call.weights = {constant(V(run[at::W], "W", "(G*H, I)", {G * H, I}, in).matrix()),
                      constant(V(run[at::U], "U", "(G*H, H)", {G * H, H}, in).matrix()), nullptr,
                      nullptr};
      Backward<Real>& a = call.args;
      a.shape = s;
      a.reverse = run[at::reverse].cast<bool>();
      a.x = constant(V(x, "x", "(T, B, I)", {T, B, I}, in).sequence());
      a.h_0 = constant(V(run[at::h_0], "h_0", "(B, H)", {B, H}, in, true).batch());
      a.y = constant(V(run[at::y], "y", "(T, B, H)", {T, B, H}, in).sequence());
      a.tape = V(run[at::tape], "tape", "(T, B, S, H)", {T, B, S, H}, out).tape(H);
      a.dy = constant(V(run[at::dy], "dy", "(T, B, H)", {T, B, H}, in, true).sequence());
      a.dh_n = constant(V(run[at::dh_n], "dh_n", "(B, H)", {B, H}, in, true).batch());
      a.dx = V(run[at::dx], "dx", "(T, B, I)", {T, B, I}, out, true).sequence();
      a.dh_0 = V(run[at::dh_0], "dh_0", "(B, H)", {B, H}, out, true).batch();
      a.dW = V(run[at::dW], "dW", "(G*H, I)", {G * H, I}, out).input_major();
      a.dU = V(run[at::dU], "dU", "(G*H, H)", {G * H, H}, out).input_major();
      a.db_x = V(run[at::db_x], "db_x", "(G*H,)", {G * H}, out, true).vector();
      a.db_h = V(run[at::db_h], "db_h", "(G*H,)", {G * H}, out, true).vector();
      calls.push_back(call);
    }
    in_team_without_gil(2 * work_of<Real>(cell, calls), [&] {
      run_backward(cell, length.empty() ? nullptr : length.data(), calls, most);
    });
  });
}

// N, K, M of x (N, K) and W (M, K).
std::array<Index, 3> linear_sizes(const py::array& x, const py::array& W) {
  if (x.ndim() != 2) throw std::invalid_argument("_core: x must be of shape (N, K)");
  if (W.ndim() != 2) throw std::invalid_argument("_core: W must be of shape (M, K)");
  return {x.shape(0), x.shape(1), W.shape(0)};
}

void linear_forward(const py::array& x, const py::array& W, py::handle b, py::handle y) {
  with_dtype(x, "x", [&](auto real) {
    using Real = decltype(real);
    using V = View<Real>;
    constexpr auto in = Access::read, out = Access::write;
    const auto [N, K, M] = linear_sizes(x, W);
    Linear<Real> a;
    a.N = N, a.K = K, a.M = M;
    a.x = constant(V(x, "x", "(N, K)", {N, K}, in).rows());
    a.y = V(y, "y", "(N, M)", {N, M}, out).rows();
    const auto weight = constant(V(W, "W", "(M, K)", {M, K}, in).matrix());
    const Real* bias = V(b, "b", "(M,)", {M}, in, true).vector();
    in_team_without_gil(linear_work(N, K, M), [&] { run_linear(a, weight, bias); });
  });
}

void linear_backward(const py::array& x, const py::array& W, py::handle dy, py::handle dx,
                     py::handle dW, py::handle db) {
  with_dtype(x, "x", [&](auto real) {
    using Real = decltype(real);
    using V = View<Real>;
    constexpr auto in = Access::read, out = Access::write;
    const auto [N, K, M] = linear_sizes(x, W);
    LinearBackward<Real> a;
    a.N = N, a.K = K, a.M = M;
    a.x = constant(V(x, "x", "(N, K)", {N, K}, in).rows());
    a.W = constant(V(W, "W", "(M, K)", {M, K}, in).matrix());
    a.dy = constant(V(dy, "dy", "(N, M)", {N, M}, in).rows());
    a.dx = V(dx, "dx", "(N, K)", {N, K}, out, true).rows();
    a.dW = V(dW, "dW", "(M, K)", {M, K}, out).input_major();
    a.db = V(db, "db", "(M,)", {M}, out, true).vector();
    in_team_without_gil(2 * linear_work(N, K, M), [&] { run_linear_backward(a); });
  });
}

}  // namespace

void register_layers(py::module_& m) {
  using py::arg;
  const auto most = arg("most") = kMostThreads;
  m.def("forward", &forward, arg("cell"), arg("x"), arg("lengths"), arg("runs"), most);
  m.def("backward", &backward, arg("cell"), arg("x"), arg("lengths"), arg("runs"), most);
  m.def("linear_forward", &linear_forward, arg("x"), arg("W"), arg("b"), arg("y"));
  m.def("linear_backward", &linear_backward, arg("x"), arg("W"), arg("dy"), arg("dx"), arg("dW"),
        arg("db"));
}

}  // namespace pygru
