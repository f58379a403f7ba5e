// SPDX-License-Identifier: MIT
// Passes over flat buffers: Adam, sums of products, losses with their gradients.
#include "../runtime/isa.h"
#include "arrays.h"
#include "gil.h"
#include "register.h"

namespace pygru {
namespace {

void adam(py::handle p, py::handle g, py::handle m, py::handle v, double rate, double beta_1,
          double beta_2, double eps, double decay) {
  with_dtype(p, "p", [&](auto real) {
    using Real = decltype(real);
    using V = View<Real>;
    constexpr auto in = Access::read, out = Access::write;
    const Index n = py::reinterpret_borrow<py::array>(p).size();
    const Adam<Real> a = {.n = n,
                          .p = V(p, "p", "(N,)", {n}, out).vector(),
                          .g = V(g, "g", "(N,)", {n}, in).vector(),
                          .m = V(m, "m", "(N,)", {n}, out).vector(),
                          .v = V(v, "v", "(N,)", {n}, out).vector(),
                          .rate = static_cast<Real>(rate),
                          .beta_1 = static_cast<Real>(beta_1),
                          .beta_2 = static_cast<Real>(beta_2),
                          .eps = static_cast<Real>(eps),
                          .decay = static_cast<Real>(decay)};
    without_gil_if_long(16.0 * static_cast<double>(n),
                        [&] { kernels_of<Real>(kernels()).adam(a); });
  });
}

double dot(const py::array& a, py::handle b) {
  return with_dtype(a, "a", [&](auto real) {
    using Real = decltype(real);
    const auto left = in_order<Real>(a, "a"), right = in_order<Real>(b, "b");
    const RowViews<Real> like(left);
    const Real* const other = like.of(right, "b", Access::read);
    const Index n = left.size();
    double sum = 0;
    without_gil_if_long(2.0 * static_cast<double>(n),
                        [&] { sum = kernels_of<Real>(kernels()).dot(left.data(), other, n); });
    return sum;
  });
}

double residual_loss(const std::string& name, py::handle y, py::handle target, const py::array& dy,
                     double scale, double delta) {
  const auto loss = static_cast<int>(named<Loss>("loss", name, kLossNames));
  return with_dtype(dy, "dy", [&](auto real) {
    using Real = decltype(real);
    const auto left = in_order<Real>(y, "y"), right = in_order<Real>(target, "target");
    const RowViews<Real> like(dy);
    const Index n = dy.size();
    const Residuals<Real> r = {.n = n,
                               .y = like.of(left, "y", Access::read),
                               .target = like.of(right, "target", Access::read),
                               .dy = like.of(dy, "dy", Access::write),
                               .scale = static_cast<Real>(scale),
                               .delta = static_cast<Real>(delta)};
    double sum = 0;
    without_gil_if_long(8.0 * static_cast<double>(n),
                        [&] { sum = kernels_of<Real>(kernels()).loss[loss](r); });
    return sum;
  });
}

}  // namespace

void register_flat(py::module_& m) {
  using py::arg;
  m.def("adam", &adam, arg("p"), arg("g"), arg("m"), arg("v"), arg("rate"), arg("beta_1"),
        arg("beta_2"), arg("eps"), arg("decay"));
  m.def("dot", &dot, arg("a"), arg("b"));
  m.def("residual_loss", &residual_loss, arg("loss"), arg("y"), arg("target"), arg("dy"),
        arg("scale"), arg("delta"));
}

}  // namespace pygru
