// SPDX-License-Identifier: MIT
// The extension module _core: what the other files of this folder register, and the version.
#include <pybind11/numpy.h>

#include "../runtime/thread_pool.h"
#include "register.h"

// Neither for subinterpreters nor without the GIL: what is checked of arrays relies on it.
PYBIND11_MODULE(_core, m) {
  m.attr("__version__") = PYGRU_VERSION;
  // pybind11 finds NumPy's functions when they are first used, without the GIL for a moment: a
  // daemon thread that comes to it while the interpreter shuts down would abort the process.
  pybind11::dtype::of<float>();
  pygru::prepare_for_forks();
  pygru::register_machine(m);
  pygru::register_layers(m);
  pygru::register_flat(m);
  pygru::register_rows(m);
  pygru::register_packing(m);
  pygru::register_stream(m);
}
