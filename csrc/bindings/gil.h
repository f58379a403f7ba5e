// SPDX-License-Identifier: MIT
// Work without the GIL, also while the interpreter shuts down.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <exception>
#include <string>
#include <thread>

#include "../runtime/plan.h"
#include "../runtime/thread_pool.h"

namespace pygru {

// Takes the GIL back, or never returns. Before Python 3.14 a thread that wants the GIL while the
// interpreter shuts down is ended by pthread_exit, which unwinds its stack: destructors would give
// back Python objects without the GIL. So it waits here for the end of the process, as in 3.14.
inline void take_gil(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {  // the unwinding: nothing else comes out of a C function
    for (;;) std::this_thread::sleep_for(std::chrono::hours(24));
  }
}

// Runs work() without the GIL.
template <class Work>
void without_gil(Work work) {
  PyThreadState* const state = PyEval_SaveThread();
  try {
    work();
  } catch (const std::exception&) {
    take_gil(state);
    throw;
  }
  take_gil(state);
}

// The same where the work takes longer than about a microsecond. Giving the GIL up for less would
// cost more than it gives, and beside a thread that computes in Python much more.
template <class Work>
void without_gil_if_long(double operations, Work work) {
  if (operations < kBriefWork)
    work();
  else
    without_gil(work);
}

// The same for what may call a team; warns, once for each time it happens, where threads could not
// be started.
template <class Work>
void in_team_without_gil(double operations, Work work) {
  without_gil_if_long(operations, work);
  const Index available = take_thread_failure();
  if (!available) return;
  const std::string text =
      "pygru: could not start another thread; using " + std::to_string(available) + " from now on";
  if (PyErr_WarnEx(PyExc_RuntimeWarning, text.c_str(), 2)) throw pybind11::error_already_set();
}

}  // namespace pygru
