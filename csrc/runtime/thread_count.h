// SPDX-License-Identifier: MIT
// How many threads a call may use: set_num_threads(), else PYGRU_NUM_THREADS, else OMP_NUM_THREADS,
// else the CPUs that affinity and the cgroup's quota leave to this process.
#pragma once

#include <string>

#include "../kernels/args.h"

namespace pygru {

constexpr Index kMostThreads = 1024;

// Throws std::invalid_argument where an environment variable holds no valid count.
Index num_threads();

// CPUs' worth of time that the cgroup of this process and those above it grant, rounded up: half a
// CPU more is worth a thread. 0 where there is no limit. `root`: the folder above proc and sys, ""
// but in tests.
Index cpus_of_cgroup(const std::string& root);

// Throws std::invalid_argument unless 1 <= n <= kMostThreads.
void set_num_threads(Index n);

}  // namespace pygru
