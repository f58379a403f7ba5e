// SPDX-License-Identifier: MIT
// What the pass over a layer's steps and the one back through them share: which of the sequences of
// a step, and which panels, belong to a member of the team. Depends on panels.h.
#pragma once

#include "panels.h"

namespace {

using pygru::Shape;
using pygru::Split;

// Args is Forward or Backward. Steps are numbered in the order the pass takes them.
template <class Args>
struct Pass {
  const Args& f;
  const Team team;
  const Shape s;
  const bool from_the_end;  // step 0 is t = T - 1
  const bool by_sequence;
  Range rows;  // this member's sequences, by f.lengths

  Pass(const Args& args, Team members, bool last_first)
      : f(args),
        team(members),
        s(args.shape),
        from_the_end(last_first),
        by_sequence(f.split == Split::sequences),
        rows(by_sequence && team.size > 1 ? Range{f.cuts[team.rank], f.cuts[team.rank + 1]}
                                          : Range{0, s.B}) {}

  // This member's panels.
  Range part_of(const Panels& panels) const {
    return by_sequence ? Range{0, panels.count()} : share(panels.count(), team);
  }

  Index time_of(Index step) const { return from_the_end ? s.T - 1 - step : step; }
  // How many sequences have this step: the first of f.lengths.
  Index alive(Index step) const { return f.lengths.alive(time_of(step), s.B); }
  // Those of [begin, end) that are this member's.
  Range mine(Index begin, Index end) const {
    return {max(rows.begin, begin), max(max(rows.begin, begin), min(rows.end, end))};
  }
};

}  // namespace
