// SPDX-License-Identifier: MIT
// The project's own threads: a handful that wait for a team to be called together, run one function
// as its members, and go to sleep when nothing comes. A call wakes the members of its team only.
//
// One team works at a time; a second Python thread that calls meanwhile runs alone (results do not
// depend on how many members a team has), and so does every call of a kind for a while after teams
// turned out to be slower (account.h). After fork() the child starts with a new, empty pool.
#pragma once

#include "../kernels/args.h"

namespace pygru {

// What a team runs: refers to a callable work(rank, size) of the caller's, and allocates nothing.
class TeamWork {
 public:
  template <class Function>
  TeamWork(const Function& function)  // NOLINT: made where a team is called
      : function_(&function), call_([](const void* f, Index rank, Index size) {
          (*static_cast<const Function*>(f))(rank, size);
        }) {}
  void operator()(Index rank, Index size) const { call_(function_, rank, size); }
  // The same for all work of one type.
  const void* kind() const { return reinterpret_cast<const void*>(call_); }

 private:
  const void* function_;
  void (*call_)(const void*, Index, Index);
};

// Runs work(rank, size) as the members 0 .. size - 1, size = wanted or 1 or as many as there can
// be, of which the caller is rank 0. Returns when all have finished. `work` must not throw; it does
// about so many floating-point operations a step, and in all, by which calls of its kind are told
// from others (account.h).
void run_team(Index wanted, double per_step, double operations, const TeamWork& work);

// Forgets what calls took so far: teams work in the next ones, whatever came of it before. For
// tests, which follow each other closer than calls of a program that differ so.
void forget_calls();

// How many threads there are, the caller included, if the last attempt to start more failed, else
// 0; num_threads() has become that. Asking resets it.
Index take_thread_failure();

// Sets up the pool, which starts no thread yet. To be called before there can be two threads: a
// fork while another thread sets it up would leave the child waiting for ever.
void prepare_for_forks();

// Not 0, and one more in a forked child than in its parent: tells what a thread that the child does
// not have was doing from what the child does. Counts the forks since prepare_for_forks().
unsigned process_generation();

}  // namespace pygru
