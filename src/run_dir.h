// The directory of a run: config.toml, metrics.jsonl, summary.json, and its checkpoints (checkpoint.h).
#pragma once
#include <memory>
#include <string>

#include "run_lock.h"
#include "settings.h"

namespace convoy {

struct RunDir {
  std::string path;  // empty: a new directory below runs/, named when it is made
  std::string from;  // a checkpoint, or a directory whose newest good checkpoint is meant; empty: a new run
  std::shared_ptr<const RunLock> lock;  // of `path`, from when the directory is there
};

// Chooses the directory of settings.out and settings.resume; makes nothing:
//   no --resume        OUT, which must not hold a run; without --out runs/<model>-<date>-<time>
//   --resume DIR       goes on in DIR (or, with --out, in a new directory) from its newest checkpoint
//   --resume FILE      goes on from that checkpoint in its own directory, or in --out
//   --resume auto      with --out: goes on if OUT holds a checkpoint, else a new run in OUT
// Locks the directory if it is there: what is seen in it stays so. Throws InputError when another program writes to
// it (naming that program), the directory holds a run, there is no checkpoint, or the directory could not be made or
// written to.
RunDir choose_run_dir(const Settings& settings);

// Makes the directory, once everything else about the run is known to be right, locks it, and removes what a dead save
// left there. runs/<model>-<date>-<time> is numbered if it is there. Throws InputError when it cannot, or when
// another program was quicker.
RunDir make_run_dir(RunDir run, const std::string& model);

// The config.toml of the run that --resume means; empty when nothing is resumed or the run has none.
std::string resumed_config(const std::string& resume, const std::string& out);

}  // namespace convoy
