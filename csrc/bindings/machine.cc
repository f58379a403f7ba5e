// SPDX-License-Identifier: MIT
// Instruction sets, threads, and what the machine can do.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "../runtime/isa.h"
#include "../runtime/thread_count.h"
#include "../runtime/thread_pool.h"
#include "arrays.h"
#include "gil.h"
#include "register.h"

namespace pygru {

namespace {

double multiply_adds(Index rounds, const std::string& dtype) {
  if (dtype != "float32" && dtype != "float64")
    throw std::invalid_argument("multiply_adds: dtype must be 'float32' or 'float64', got '" +
                                dtype + "'");
  float singles[3] = {1.0f, 0.999f, 0.001f};
  double doubles[3] = {1.0, 0.999, 0.001};
  double operations = 0;
  without_gil([&] {
    operations = dtype == "float32" ? kernels().f32.multiply_adds(rounds, singles)
                                    : kernels().f64.multiply_adds(rounds, doubles);
  });
  return operations;
}

double read(const py::array& x) {
  return with_dtype(x, "x", [&](auto real) -> double {
    using Real = decltype(real);
    const Index n = x.size();
    const Real* const from = View<Real>(x, "x", "(N,)", {n}, Access::read).vector();
    double result = 0;
    without_gil([&] { result = kernels_of<Real>(kernels()).read(from, n); });
    return result;
  });
}

}  // namespace

void register_machine(py::module_& m) {
  m.def("isa", &isa_name);
  m.def("available_isas", [] { return py::tuple(py::cast(available_isas())); });
  m.def("use_isa", &use_isa, py::arg("name"));
  m.attr("MOST_THREADS") = kMostThreads;
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &num_threads);
  m.def("forget_calls", &forget_calls);
  m.def("cpus_of_cgroup", &cpus_of_cgroup, py::arg("root"));
  m.def("build_info", [] {
    py::dict info;
    info["compiler"] = PYGRU_COMPILER;
    info["build type"] = PYGRU_BUILD_TYPE;
    return info;
  });
  m.def("multiply_adds", &multiply_adds, py::arg("rounds"), py::arg("dtype"));
  m.def("read", &read, py::arg("x"));
}

}  // namespace pygru
