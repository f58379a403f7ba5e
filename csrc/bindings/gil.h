// SPDX-License-Identifier: MIT
// Work without the GIL, also while the interpreter shuts down.
#pragma once

#include <Python.h>

#include <chrono>
#include <exception>
#include <thread>

#include "../runtime/plan.h"

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

}  // namespace pygru
