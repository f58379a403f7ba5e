// SPDX-License-Identifier: MIT
// Methods (x, out=None) by CPython's own calling convention, for calls that may take less than a
// microsecond: pybind11 looks up each keyword by a string that it makes for every call, and takes
// longer for that than a step of 32 units.
#pragma once

#include <pybind11/pybind11.h>

#include <new>
#include <stdexcept>
#include <string>

namespace pygru {

namespace py = pybind11;

// References of the caller's, good until the method returns.
struct XAndOut {
  py::handle x, out = Py_None;
};

// The arguments of a call of `method`, whose first is called `first`: those by position, then one
// for each of `names` (a tuple or null). What is wrong with them is a TypeError.
inline XAndOut x_and_out(const char* method, const char* first, PyObject* const* given,
                         Py_ssize_t positional, PyObject* names) {
  const auto refuse = [&](const std::string& why) {
    throw py::type_error(std::string(method) + ": " + why);
  };
  if (positional > 2) refuse("takes at most 2 arguments, got " + std::to_string(positional));
  XAndOut a;
  if (positional > 0) a.x = given[0];
  if (positional > 1) a.out = given[1];
  const Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* const name = PyTuple_GET_ITEM(names, i);
    const bool is_out = PyUnicode_CompareWithASCIIString(name, "out") == 0;
    const bool known = is_out || PyUnicode_CompareWithASCIIString(name, first) == 0;
    if (!known || positional > (is_out ? 1 : 0))
      refuse((known ? "got two values for " : "takes no argument ") +
             py::repr(name).cast<std::string>());
    (is_out ? a.out : a.x) = given[positional + i];
  }
  if (!a.x) refuse(std::string("needs the argument ") + first);
  return a;
}

// The result of work(), or null and what it threw as a Python error: Python's own and pybind11's as
// they are, std::bad_alloc as a MemoryError, std::invalid_argument as a ValueError, others as a
// RuntimeError.
template <class Work>
PyObject* as_python(Work work) {
  try {
    return work().release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

using Method = PyObject* (*)(PyObject* self, PyObject* const* given, Py_ssize_t positional,
                             PyObject* names);

// The flags tell CPython what kind of function it has in a PyCFunction; the cast through void (*)()
// tells GCC that this is on purpose.
inline PyMethodDef method(const char* name, Method function, const char* doc) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)),
          METH_FASTCALL | METH_KEYWORDS, doc};
}

// `definition` has to outlive the class.
inline void add_method(py::handle type, PyMethodDef& definition) {
  auto* const descriptor =
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition);
  if (!descriptor) throw py::error_already_set();
  type.attr(definition.ml_name) = py::reinterpret_steal<py::object>(descriptor);
}

}  // namespace pygru
