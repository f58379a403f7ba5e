// SPDX-License-Identifier: MIT
// Calls a kernel as the teams that a plan wants, or on one thread where fewer can be had.
#pragma once

#include "plan.h"
#include "thread_pool.h"
#include "waiting.h"

namespace pygru {

// Calls work(run, team) as every member of each run's team.
template <class Work>
void run_teams(const Plan& plan, Index runs, const Work& work) {
  const Index at_once = plan.together ? runs : 1;
  for (Index first = 0; first < runs; first += at_once) {
    Barrier barriers[2] = {Barrier(plan.size), Barrier(plan.size)};
    run_team(plan.size * at_once, plan.per_step, plan.operations, [&](Index rank, Index size) {
      if (size == plan.size * at_once) {
        const Index run = rank / plan.size;
        work(first + run, Team{rank % plan.size, plan.size, Barrier::wait_on, &barriers[run]});
      } else if (rank == 0) {  // fewer threads than planned: one does it all
        for (Index run = 0; run < at_once; ++run) work(first + run, Team{});
      }
    });
  }
}

// Calls work(team) as every member of one team.
template <class Work>
void run_one_team(const Plan& plan, const Work& work) {
  if (plan.size == 1) return work(Team{});
  run_teams(plan, 1, [&](Index, Team team) { work(team); });
}

}  // namespace pygru
