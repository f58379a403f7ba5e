// SPDX-License-Identifier: MIT
// The packed weights of a model as Python holds them.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <variant>

#include "../runtime/stream.h"

namespace pygru {

namespace py = pybind11;

template <class Real>
using Model = std::shared_ptr<const PackedModel<Real>>;

// The packed weights of a model of either type, shared by its streams.
struct AnyModel {
  std::variant<Model<float>, Model<double>> model;
};

// Loads an object only when its __init__ has run: one that __new__ alone has made holds nothing,
// and pybind11 would pass on memory that nobody has filled.
template <class Type>
class Initialised : public py::detail::type_caster_base<Type> {
 public:
  bool load(py::handle source, bool convert) {
    if (!py::detail::type_caster_base<Type>::load(source, convert)) return false;
    auto* const instance = reinterpret_cast<py::detail::instance*>(source.ptr());
    if (!instance->get_value_and_holder().holder_constructed())
      throw std::runtime_error("_core: a " + std::string(Py_TYPE(source.ptr())->tp_name) +
                               " was used before its __init__ had run");
    return true;
  }
};

}  // namespace pygru

template <>
class pybind11::detail::type_caster<pygru::AnyModel> : public pygru::Initialised<pygru::AnyModel> {
};
