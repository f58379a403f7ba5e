// SPDX-License-Identifier: MIT
#include "../runtime/isa.h"
#include "../runtime/thread_count.h"
#include "register.h"

PYBIND11_MODULE(_core, m) {
  m.attr("__version__") = PYGRU_VERSION;
  pygru::register_machine(m);
  pygru::register_layers(m);
  pygru::register_stream(m);
  // An environment variable that makes no sense is an error now, not at the first call.
  pygru::kernels();
  pygru::num_threads();
}
