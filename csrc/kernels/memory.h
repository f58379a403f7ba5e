// SPDX-License-Identifier: MIT
// How a kernel lays out the memory it is given: an arena that hands out aligned pieces in order.
// Run with a null base it only counts, so that one function says both how much is needed and where
// what is.
#pragma once

#include "args.h"

namespace {

using pygru::Index;
using pygru::Team;

struct Arena {
  static constexpr Index alignment = 64;  // a cache line, the widest register
  char* base = nullptr;
  Index used = 0;

  explicit Arena(const void* memory) : base(static_cast<char*>(const_cast<void*>(memory))) {}

  template <class Item>
  Item* take(Index count) {
    const Index at = used;
    const Index bytes = count * static_cast<Index>(sizeof(Item));
    used += (bytes + alignment - 1) / alignment * alignment;
    return base ? reinterpret_cast<Item*>(base + at) : nullptr;
  }
  // As much for every member of a team; returns this one's.
  template <class Item>
  Item* take_own(Index count, const Team& team) {
    Item* own = nullptr;
    for (Index member = 0; member < team.size; ++member) {
      Item* const items = take<Item>(count);
      if (member == team.rank) own = items;
    }
    return own;
  }
};

}  // namespace
