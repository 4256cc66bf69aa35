#include "checkpoint_agree.h"

#include "convoy/checkpoint.h"

namespace convoy {

void Line::send(const void* data, int64_t bytes, int to) {
  if (bytes == 0) return;
  workers_.send(exec_, kLabel, In(static_cast<const uint8_t*>(data), Shape{bytes}), to);
  exec_.backend->synchronize(exec_);
}

void Line::recv(void* data, int64_t bytes, int from) {
  if (bytes == 0) return;
  workers_.recv(exec_, kLabel, View(static_cast<uint8_t*>(data), Shape{bytes}), from);
  exec_.backend->synchronize(exec_);
}

void Line::send_text(const std::string& words, int to) {
  const auto bytes = static_cast<int64_t>(words.size());
  send(&bytes, sizeof bytes, to);
  send(words.data(), bytes, to);
}

std::string Line::recv_text(int from) {
  int64_t bytes = 0;
  recv(&bytes, sizeof bytes, from);
  std::string words(static_cast<size_t>(bytes), '\0');
  recv(words.data(), bytes, from);
  return words;
}

namespace {

void send_verdict(Line& line, const Verdict& verdict, int to) {
  line.send(&verdict.kind, sizeof verdict.kind, to);
  line.send_text(verdict.message, to);
}

Verdict recv_verdict(Line& line, int from) {
  Verdict verdict;
  line.recv(&verdict.kind, sizeof verdict.kind, from);
  verdict.message = line.recv_text(from);
  return verdict;
}

}  // namespace

Verdict attempt(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const Aborted&) {
    throw;
  } catch (const InputError& error) {
    return {Verdict::kInputError, error.what(), std::current_exception()};
  } catch (const std::exception& error) {
    return {Verdict::kError, error.what(), std::current_exception()};
  }
}

void pronounce(const Verdict& verdict) {
  if (verdict.kind == Verdict::kGood) return;
  if (verdict.error) std::rethrow_exception(verdict.error);
  if (verdict.kind == Verdict::kInputError) throw InputError(verdict.message);
  throw Error(verdict.message);
}

void announce(Line& line, const Verdict& verdict) {
  for (int rank = 1; rank < line.world(); ++rank) send_verdict(line, verdict, rank);
}

void heed(Line& line) {
  const Verdict verdict = recv_verdict(line, 0);
  if (verdict.kind != Verdict::kGood) throw Aborted(verdict.message);
}

void report(Line& line, const Verdict& mine) {
  send_verdict(line, mine, 0);
}

Verdict collect(Line& line, const Verdict& mine) {
  Verdict first = mine;
  for (int rank = 1; rank < line.world(); ++rank) {
    const Verdict theirs = recv_verdict(line, rank);
    if (first.kind == Verdict::kGood) first = theirs;
  }
  return first;
}

void all_or_none(Communicator* workers, Exec& exec, const std::function<void()>& work) {
  if (workers == nullptr || workers->world() == 1) return work();
  Line line(*workers, exec);
  const Verdict mine = attempt(work);
  if (workers->rank() != 0) {
    report(line, mine);
    return heed(line);
  }
  const Verdict all = collect(line, mine);
  announce(line, all);
  pronounce(all);
}

// The first rank looks for the file; the others read those that it names, until it names none.
FoundCheckpoint find_latest_together(Communicator* workers, Exec& exec, const std::string& dir,
                                     const std::function<void(const std::string& file)>& use) {
  if (workers == nullptr || workers->world() == 1) return find_latest(dir, use);
  Line line(*workers, exec);
  FoundCheckpoint found;
  if (workers->rank() != 0) {
    for (std::string file = line.recv_text(0); !file.empty(); file = line.recv_text(0)) {
      found.file = file;
      report(line, attempt([&] { use(file); }));
    }
    heed(line);
    return found;
  }
  const auto name = [&](const std::string& file) {
    for (int rank = 1; rank < line.world(); ++rank) line.send_text(file, rank);
  };
  const Verdict verdict = attempt([&] {
    found = find_latest(dir, [&](const std::string& file) {
      name(file);
      pronounce(collect(line, attempt([&] { use(file); })));
    });
  });
  name("");
  announce(line, verdict);
  pronounce(verdict);
  return found;
}

}  // namespace convoy
