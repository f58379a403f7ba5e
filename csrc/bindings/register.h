// SPDX-License-Identifier: MIT
// One function for each file of bindings, called by module.cc.
#pragma once

#include <pybind11/pybind11.h>

namespace pygru {

void register_flat(pybind11::module_& m);
void register_layers(pybind11::module_& m);
void register_machine(pybind11::module_& m);
void register_packing(pybind11::module_& m);
void register_rows(pybind11::module_& m);
void register_stream(pybind11::module_& m);

}  // namespace pygru
