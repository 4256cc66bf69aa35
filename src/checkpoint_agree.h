// How several workers come to one outcome: what each of them tried, and what the first one made of it.
#pragma once
#include <exception>
#include <functional>
#include <string>

#include "convoy/comm.h"

namespace convoy {

// Bytes to and from other ranks, which are there when a call returns.
class Line {
 public:
  static constexpr Label kLabel{Traffic::kOther, "checkpoint"};

  Line(Communicator& workers, Exec& exec) : workers_(workers), exec_(exec) {}
  int world() const { return workers_.world(); }
  void send(const void* data, int64_t bytes, int to);
  void recv(void* data, int64_t bytes, int from);
  void send_text(const std::string& words, int to);
  std::string recv_text(int from);

 private:
  Communicator& workers_;
  Exec& exec_;
};

// What became of a piece of work. `error` is null on ranks that have another's verdict.
struct Verdict {
  enum Kind : int64_t { kGood, kInputError, kError } kind = kGood;
  std::string message;
  std::exception_ptr error;
};

// Runs it. Aborted passes: nobody listens any more.
Verdict attempt(const std::function<void()>& work);
// Throws what the verdict says.
void pronounce(const Verdict& verdict);

// The first rank tells the others, which throw Aborted with its message unless all is well.
void announce(Line& line, const Verdict& verdict);
void heed(Line& line);

// The others tell the first rank, which gets the verdict of the lowest rank that failed.
void report(Line& line, const Verdict& mine);
Verdict collect(Line& line, const Verdict& mine);

}  // namespace convoy
