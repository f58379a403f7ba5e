// SPDX-License-Identifier: MIT
// NumPy arrays as the kernels' views: each conversion checks type, shape, strides and writability,
// so that no kernel can be led out of bounds. Whoever calls pygru through its Python layer never
// sees these errors.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

#include "../kernels/kernel_table.h"

namespace pygru {

namespace py = pybind11;

enum class Access { read, write };

// NumPy's flag of an array whose elements all lie where their type may.
constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
inline bool aligned(py::handle array) {
  return (py::reinterpret_borrow<py::array>(array).flags() & kAligned) != 0;
}

// For errors: what Python's str() says of an object.
inline std::string text_of(py::handle object) {
  return py::str(object).cast<std::string>();
}

// A shape as Python writes it, with T for its first axis where that may be any.
inline std::string text_of(const Index* shape, Index axes, bool any_time = false) {
  std::string text = "(";
  for (Index i = 0; i < axes; ++i)
    text += (i > 0 ? ", " : "") + (i == 0 && any_time ? "T" : std::to_string(shape[i]));
  return text + (axes == 1 ? ",)" : ")");
}

// Where memory ends: sizes up to here leave room for padding and scratch in an Index.
// An array that repeats its elements may have a larger shape than any memory.
constexpr Index kMostElements = Index{1} << 44;
inline bool fits_memory(const py::array& array) {
  for (Index axis = 0; axis < array.ndim(); ++axis)
    if (array.shape(axis) > kMostElements) return false;
  return array.size() <= kMostElements;
}

// What an object is: "an array of int64", or the name of its type.
inline std::string kind_of(py::handle object) {
  if (!py::isinstance<py::array>(object))
    return text_of(py::type::handle_of(object).attr("__name__"));
  return "an array of " + text_of(object.attr("dtype"));
}

// How an error about an argument begins.
inline std::string must_be(const char* name) {
  return std::string("_core: ") + name + " must be ";
}
template <class Real>
py::type_error wrong_kind(py::handle object, const char* name) {
  return py::type_error(must_be(name) + "an array of " + text_of(py::dtype::of<Real>()) + ", got " +
                        kind_of(object));
}

// An object as an array of one type, to be read or written.
template <class Real>
py::array array_of(py::handle object, const char* name, Access access) {
  if (!py::isinstance<py::array_t<Real>>(object)) throw wrong_kind<Real>(object, name);
  auto array = py::reinterpret_borrow<py::array>(object);
  if (access == Access::write && !array.writeable())
    throw std::invalid_argument(must_be(name) + "writeable");
  if (!fits_memory(array))
    throw std::invalid_argument(must_be(name) + "of a size that memory can have");
  return array;
}

// An array's values in C order, aligned: the array where they lie so, or a copy; NumPy refuses an
// array that it cannot cast safely.
template <class Real>
using InOrder = py::array_t<Real, py::array::c_style | kAligned>;
template <class Real>
InOrder<Real> in_order(py::handle object, const char* name) {
  if (py::isinstance<InOrder<Real>>(object) && aligned(object))  // which pybind11 does not look at
    return py::reinterpret_borrow<InOrder<Real>>(object);
  if (!py::isinstance<py::array>(object)) throw wrong_kind<Real>(object, name);
  return InOrder<Real>(py::reinterpret_borrow<py::object>(object));
}

// An array of one dtype and shape, or nothing where None is allowed.
template <class Real>
class View {
 public:
  // `symbols` names the axes in errors, e.g. "(T, B, I)".
  View(py::handle object, const char* name, const char* symbols, std::initializer_list<Index> shape,
       Access access, bool may_be_none = false) {
    name_ = name;
    if (object.is_none() && may_be_none) return;
    const auto array = array_of<Real>(object, name, access);
    bool fits = array.ndim() == static_cast<Index>(shape.size());
    Index axis = 0;
    for (const Index n : shape) fits = fits && array.shape(axis++) == n;
    if (!fits)
      throw std::invalid_argument(must_be(name_) + "of shape " + symbols + " = " +
                                  text_of(shape.begin(), static_cast<Index>(shape.size())) +
                                  ", got " + text_of(array.attr("shape")));
    empty_ = array.size() == 0;
    for (axis = 0; axis < array.ndim(); ++axis) {
      // The stride of an axis of one element means nothing; 1, as it is, suits every check below.
      if (empty_ || array.shape(axis) == 1) continue;
      if (array.strides(axis) % static_cast<Index>(sizeof(Real)) != 0)
        throw std::invalid_argument(must_be(name_) + "aligned");
      strides_[axis] = array.strides(axis) / static_cast<Index>(sizeof(Real));
    }
    if (!aligned(array)) throw std::invalid_argument(must_be(name_) + "aligned");
    data_ = static_cast<Real*>(const_cast<void*>(array.data()));
    one_slot_ = array.ndim() == 4 && array.shape(2) == 1;
  }

  Sequence<Real> sequence() const {
    contiguous(2);
    return {data_, strides_[0], strides_[1]};
  }
  Batch<Real> batch() const {
    contiguous(1);
    return {data_, strides_[0]};
  }
  Real* vector() const {
    contiguous(0);
    return data_;
  }
  Matrix<Real> matrix() const { return {data_, strides_[0], strides_[1]}; }
  Matrix<Real> rows() const {
    contiguous(1);
    return matrix();
  }
  Matrix<Real> input_major() const {
    if (data_ && !empty_ && strides_[0] != 1)
      throw std::invalid_argument(must_be(name_) + "the transpose of a C-contiguous array");
    return matrix();
  }
  // (T, B, S, H) with the last two axes contiguous.
  Sequence<Real> tape(Index H) const {
    contiguous(3);
    if (data_ && !empty_ && strides_[2] != H && !one_slot_)
      throw std::invalid_argument(must_be(name_) + "contiguous in its last two axes");
    return {data_, strides_[0], strides_[1]};
  }

 private:
  void contiguous(Index axis) const {
    if (data_ && !empty_ && strides_[axis] != 1)
      throw std::invalid_argument(must_be(name_) + "contiguous in its last axis");
  }

  Real* data_ = nullptr;
  Index strides_[4] = {1, 1, 1, 1};
  const char* name_ = "";
  bool empty_ = false;
  bool one_slot_ = false;  // of a tape: the stride of its axis of slots means nothing
};

// Rows of K values with nothing between them, of any number of axes: C-contiguous arrays of Real
// that have the shape of `like`.
template <class Real>
class RowViews {
 public:
  explicit RowViews(const py::array& like) : like_(like) {
    K = like.ndim() ? like.shape(like.ndim() - 1) : 1;
    N = K ? like.size() / K : 0;
  }

  Real* of(py::handle object, const char* name, Access access, bool may_be_none = false) const {
    if (object.is_none() && may_be_none) return nullptr;
    const auto array = array_of<Real>(object, name, access);
    bool fits = array.ndim() == like_.ndim();
    for (Index i = 0; fits && i < array.ndim(); ++i) fits = array.shape(i) == like_.shape(i);
    if (!fits)
      throw std::invalid_argument(must_be(name) + "of shape " + text_of(like_.attr("shape")) +
                                  ", got " + text_of(array.attr("shape")));
    if (!(array.flags() & py::array::c_style))
      throw std::invalid_argument(must_be(name) + "C-contiguous");
    if (!aligned(array)) throw std::invalid_argument(must_be(name) + "aligned");
    return static_cast<Real*>(const_cast<void*>(array.data()));
  }

  Index N, K;

 private:
  const py::array& like_;
};

template <class Real>
Sequence<const Real> constant(Sequence<Real> s) {
  return {s.data, s.t_stride, s.b_stride};
}
template <class Real>
Batch<const Real> constant(Batch<Real> b) {
  return {b.data, b.b_stride};
}
template <class Real>
Matrix<const Real> constant(Matrix<Real> m) {
  return {m.data, m.row_stride, m.column_stride};
}

// What the kernels have several of, by name, in the order of kernel_table.h.
constexpr const char* kCellNames[kCells] = {"gru_after", "gru_before", "rnn_tanh", "rnn_relu"};
constexpr const char* kActivationNames[kActivations] = {"exp", "relu", "sigmoid", "softmax",
                                                        "tanh"};
constexpr const char* kLossNames[kLosses] = {"mae", "mse", "huber"};

// The one of that name, or nothing.
template <class Kind, int N>
std::optional<Kind> find_named(const std::string& name, const char* const (&names)[N]) {
  for (int i = 0; i < N; ++i)
    if (name == names[i]) return static_cast<Kind>(i);
  return std::nullopt;
}

// The same, of an argument that must be one of them.
template <class Kind, int N>
Kind named(const char* argument, const std::string& name, const char* const (&names)[N]) {
  if (const auto found = find_named<Kind>(name, names)) return *found;
  std::string valid = names[0];
  for (int i = 1; i < N; ++i) valid += (i + 1 < N ? ", " : " or ") + std::string(names[i]);
  throw std::invalid_argument(must_be(argument) + valid + ", got " + name);
}

// Calls function(Real{}) with the type of the array's elements.
template <class Function>
auto with_dtype(py::handle array, const char* name, Function function) {
  if (py::isinstance<py::array_t<float>>(array)) return function(float{});
  if (py::isinstance<py::array_t<double>>(array)) return function(double{});
  throw py::type_error(must_be(name) + "an array of float32 or float64, got " + kind_of(array));
}

}  // namespace pygru
