// SPDX-License-Identifier: MIT
// Instruction sets, threads, and what the machine can do.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "../runtime/isa.h"
#include "../runtime/thread_count.h"
#include "../runtime/thread_pool.h"
#include "arrays.h"
#include "register.h"

namespace pygru {

void warn_of_missing_threads() {
  const Index available = take_thread_failure();
  if (!available) return;
  set_num_threads(available);
  const std::string text =
      "pygru: could not start another thread; using " + std::to_string(available) + " from now on";
  if (PyErr_WarnEx(PyExc_RuntimeWarning, text.c_str(), 2)) throw py::error_already_set();
}

namespace {

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The best of many short runs: what the machine does when nobody disturbs it.
double best(int times, const auto& run) {
  double most = 0;
  for (int i = 0; i < times; ++i) most = std::max(most, run());
  return most;
}

template <class Real>
double peak() {
  Real sink[3] = {Real(1), Real(0.999), Real(0.001)};
  return best(50, [&] {
    double operations = 0;
    const double seconds =
        seconds_of([&] { operations = kernels_of<Real>(kernels()).multiply_adds(20000, sink); });
    return operations / seconds / 1e9;
  });
}

double read_bandwidth(Index megabytes) {
  const std::vector<float> memory(static_cast<std::size_t>(megabytes) << 18, 1.0f);
  volatile float sink;
  return best(5, [&] {
    const double seconds = seconds_of(
        [&] { sink = kernels().f32.sum(memory.data(), static_cast<Index>(memory.size())); });
    return static_cast<double>(memory.size() * sizeof(float)) / seconds / 1e9;
  });
}

py::object activation(const std::string& name, py::array x) {
  if (name != "exp" && name != "sigmoid" && name != "tanh")
    throw std::invalid_argument("_core: activation must be exp, sigmoid or tanh, got " + name);
  return with_dtype(x, "x", [&](auto real) -> py::object {
    using Real = decltype(real);
    const Real* from = View<Real>(x, "x", "(N,)", {x.size()}, Access::read).vector();
    py::array_t<Real> y(x.size());
    const Kernels<Real>& k = kernels_of<Real>(kernels());
    const auto f = name == "exp" ? k.exp : name == "tanh" ? k.tanh : k.sigmoid;
    f(from, y.mutable_data(), x.size());
    return y;
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
  m.def("build_info", [] {
    py::dict info;
    info["compiler"] = PYGRU_COMPILER;
    info["build type"] = PYGRU_BUILD_TYPE;
    return info;
  });
  m.def("activation", &activation, py::arg("name"), py::arg("x"));
  m.def(
      "measure_peak",
      [](const std::string& dtype) {
        if (dtype != "float32" && dtype != "float64")
          throw std::invalid_argument("measure_peak: dtype must be 'float32' or 'float64', got '" +
                                      dtype + "'");
        double result = 0;
        without_gil([&] { result = dtype == "float32" ? peak<float>() : peak<double>(); });
        return result;
      },
      py::arg("dtype") = "float32");
  m.def(
      "measure_read_bandwidth",
      [](Index megabytes) {
        if (megabytes < 1 || megabytes > 4096)
          throw std::invalid_argument("measure_read_bandwidth: megabytes must be 1 to 4096");
        double result = 0;
        without_gil([&] { result = read_bandwidth(megabytes); });
        return result;
      },
      py::arg("megabytes") = 256);
}

}  // namespace pygru
