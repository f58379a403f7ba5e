// SPDX-License-Identifier: MIT
// What is done to each row alone: activations, cross-entropy, layer normalisation.
#include <utility>
#include <vector>

#include "../runtime/isa.h"
#include "arrays.h"
#include "gil.h"
#include "register.h"

namespace pygru {
namespace {

template <class Real>
double work_of(int activation, const RowViews<Real>& rows) {
  if (activation == static_cast<int>(Activation::softmax)) return row_work(rows.N, rows.K);
  return kFunctionWork * static_cast<double>(rows.N) * static_cast<double>(rows.K);
}

int index_of(const std::string& name) {
  return static_cast<int>(named<Activation>("activation", name, kActivationNames));
}

void activation(const std::string& name, const py::array& x, py::handle y) {
  const int which = index_of(name);
  with_dtype(x, "x", [&](auto real) {
    using Real = decltype(real);
    const RowViews<Real> rows(x);
    const Rows<Real> a = {.N = rows.N,
                          .K = rows.K,
                          .x = rows.of(x, "x", Access::read),
                          .y = rows.of(y, "y", Access::write)};
    without_gil_if_long(work_of(which, rows),
                        [&] { kernels_of<Real>(kernels()).activation[which].forward(a); });
  });
}

void activation_backward(const std::string& name, const py::array& y, py::handle dy,
                         py::handle dx) {
  const int which = index_of(name);
  with_dtype(y, "y", [&](auto real) {
    using Real = decltype(real);
    const RowViews<Real> rows(y);
    const RowsBackward<Real> a = {.N = rows.N,
                                  .K = rows.K,
                                  .y = rows.of(y, "y", Access::read),
                                  .dy = rows.of(dy, "dy", Access::read),
                                  .dx = rows.of(dx, "dx", Access::write)};
    without_gil_if_long(work_of(which, rows),
                        [&] { kernels_of<Real>(kernels()).activation[which].backward(a); });
  });
}

// Whether all classes are below K. Where one is not, nothing is written.
bool cross_entropy(const py::array& y, py::handle classes, py::handle weights, py::handle dy,
                   py::handle sums, py::handle rests) {
  return with_dtype(y, "y", [&](auto real) {
    using Real = decltype(real);
    using V = View<Real>;
    constexpr auto in = Access::read, out = Access::write;
    const RowViews<Real> rows(y);
    const auto [N, K] = std::pair(rows.N, rows.K);
    const Index* const given = View<Index>(classes, "classes", "(N,)", {N}, in).vector();
    const std::vector<Index> chosen(given, given + N);  // to which nobody writes meanwhile
    const CrossEntropy<Real> a = {.N = N,
                                  .K = K,
                                  .y = rows.of(y, "y", in),
                                  .classes = chosen.data(),
                                  .weights = V(weights, "weights", "(N,)", {N}, in).vector(),
                                  .dy = rows.of(dy, "dy", out),
                                  .sums = V(sums, "sums", "(N,)", {N}, out).vector(),
                                  .rests = V(rests, "rests", "(N,)", {N}, out).vector()};
    for (const Index c : chosen)
      if (c < 0 || c >= K) return false;
    without_gil_if_long(row_work(rows.N, rows.K),
                        [&] { kernels_of<Real>(kernels()).cross_entropy(a); });
    return true;
  });
}

void layer_norm(const py::array& x, py::handle w, py::handle b, double eps, py::handle y,
                py::handle n, py::handle scale) {
  with_dtype(x, "x", [&](auto real) {
    using Real = decltype(real);
    using V = View<Real>;
    constexpr auto in = Access::read, out = Access::write;
    const RowViews<Real> rows(x);
    const LayerNorm<Real> a = {.N = rows.N,
                               .K = rows.K,
                               .x = rows.of(x, "x", in),
                               .w = V(w, "w", "(K,)", {rows.K}, in).vector(),
                               .b = V(b, "b", "(K,)", {rows.K}, in).vector(),
                               .eps = static_cast<Real>(eps),
                               .y = rows.of(y, "y", out),
                               .n = rows.of(n, "n", out, true),
                               .scale = V(scale, "scale", "(N,)", {rows.N}, out, true).vector()};
    without_gil_if_long(row_work(rows.N, rows.K),
                        [&] { kernels_of<Real>(kernels()).layer_norm(a); });
  });
}

void layer_norm_backward(const py::array& n, py::handle scale, py::handle w, py::handle dy,
                         py::handle dx, py::handle dw, py::handle db) {
  with_dtype(n, "n", [&](auto real) {
    using Real = decltype(real);
    using V = View<Real>;
    constexpr auto in = Access::read, out = Access::write;
    const RowViews<Real> rows(n);
    const LayerNormBackward<Real> a = {.N = rows.N,
                                       .K = rows.K,
                                       .n = rows.of(n, "n", in),
                                       .scale = V(scale, "scale", "(N,)", {rows.N}, in).vector(),
                                       .w = V(w, "w", "(K,)", {rows.K}, in).vector(),
                                       .dy = rows.of(dy, "dy", in),
                                       .dx = rows.of(dx, "dx", out, true),
                                       .dw = V(dw, "dw", "(K,)", {rows.K}, out).vector(),
                                       .db = V(db, "db", "(K,)", {rows.K}, out).vector()};
    without_gil_if_long(row_work(rows.N, rows.K),
                        [&] { kernels_of<Real>(kernels()).layer_norm_backward(a); });
  });
}

}  // namespace

void register_rows(py::module_& m) {
  using py::arg;
  m.def("activation", &activation, arg("name"), arg("x"), arg("y"));
  m.def("activation_backward", &activation_backward, arg("name"), arg("y"), arg("dy"), arg("dx"));
  m.def("cross_entropy", &cross_entropy, arg("y"), arg("classes"), arg("weights"), arg("dy"),
        arg("sums"), arg("rests"));
  m.def("layer_norm", &layer_norm, arg("x"), arg("w"), arg("b"), arg("eps"), arg("y"), arg("n"),
        arg("scale"));
  m.def("layer_norm_backward", &layer_norm_backward, arg("n"), arg("scale"), arg("w"), arg("dy"),
        arg("dx"), arg("dw"), arg("db"));
}

}  // namespace pygru
