// SPDX-License-Identifier: MIT
// Whether calls of a kind are better off with a team or alone, from what they took so far. It is
// told all of it: here is no clock and no thread.
//
// A team is slower than one thread where its members must be woken, where other processes use their
// CPUs, or where two CPUs of a virtual machine are one core. So the account holds what teams have
// won of late (as much as a few hiccups of a host take). When they have lost more, calls run alone
// for four times that long, then a team tries again. Where teams go on to lose before they have won
// that back, it is twelve times, then 36: a hiccup of the machine costs little, and threads that
// are no use a 36th.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>

namespace pygru {

// What tells calls from others. Those of a kind whose steps are as large take time in proportion to
// their operations, or nearly.
struct Call {
  const void* kind = nullptr;
  double per_step = 0;    // floating-point operations: of a step of all sequences, or of a row
  double operations = 1;  // of the whole call
};

class Account {
 public:
  using Time = std::chrono::nanoseconds;

  // Whether a team should make the next call. Now and then it should not, to see what one thread
  // takes.
  bool wants_team() const { return pause_ <= Time(0) && team_calls_ < team_calls_at_most_; }

  // After a call that one thread made.
  void settle_alone(const Call& call, Time took) {
    const double rate = static_cast<double>(took.count()) / call.operations;
    if (samples_ == 0) rates_.fill(rate);
    rates_[samples_++ % rates_.size()] = rate;
    team_calls_ = 0;
    team_calls_at_most_ = std::min(2 * team_calls_at_most_, kRarely);
    pause_ -= took;
  }

  // After a call that a team made.
  void settle_team(const Call& call, Time took) {
    ++team_calls_;
    if (samples_ == 0) {
      if (took >= kLarge) team_calls_at_most_ = kLargeAtFirst;
      return;
    }
    const Time lost = took - Time(static_cast<Time::rep>(usual_rate() * call.operations));
    if (after_pause_) {  // its members were asleep: it says nothing of the calls to come
      after_pause_ = false;
      cost_of_trying_ = std::max(lost, Time(0));
      return;
    }
    won_ = std::min(won_ - lost, kMostWon);
    if (won_ >= to_win_back_) {
      to_win_back_ = Time(0);
      pause_times_ = kFirst;
    }
    if (won_ >= Time(0)) return;
    pause_ = pause_times_ * std::min(cost_of_trying_ - won_, kMostLost);
    pause_times_ = std::min(3 * pause_times_, kLast);
    after_pause_ = true;
    to_win_back_ = std::min(std::max(to_win_back_, -won_), kMostWon);
    won_ = Time(0);
  }

 private:
  // Nanoseconds for an operation of one thread, hiccups aside.
  double usual_rate() const {
    auto rates = rates_;
    const auto middle = rates.begin() + rates.size() / 2;
    std::nth_element(rates.begin(), middle, rates.end());
    return *middle;
  }

  static constexpr int kFirst = 4, kLast = 36;  // pauses, in times of what was lost
  static constexpr Time kMostWon = std::chrono::milliseconds(30);
  static constexpr Time kMostLost = std::chrono::milliseconds(30);  // at once
  static constexpr unsigned kRarely = 128;                          // calls of a team to one alone
  // A large call hardly waits within: a team is seldom worse, and one alone is felt.
  static constexpr Time kLarge = std::chrono::milliseconds(10);
  static constexpr unsigned kLargeAtFirst = 16;

  Time won_{}, cost_of_trying_{};
  Time pause_{};              // yet to be made alone
  Time to_win_back_{};        // the largest loss since teams last made up for one
  int pause_times_ = kFirst;  // how many times what is lost the next pause will be
  bool after_pause_ = false;
  unsigned team_calls_ = 0, team_calls_at_most_ = 2;  // since the last call alone
  std::array<double, 5> rates_ = {};                  // the last
  std::size_t samples_ = 0;
};

}  // namespace pygru
