// SPDX-License-Identifier: MIT
#include "register.h"

PYBIND11_MODULE(_core, m) {
  m.attr("__version__") = PYGRU_VERSION;
  pygru::register_machine(m);
  pygru::register_layers(m);
  pygru::register_stream(m);
}
