// Signals that ask a run to save and end: SIGTERM, SIGINT (a second one ends it at once), SIGHUP (a closed terminal;
// unless it was ignored at the start, as nohup does), SIGUSR1 and SIGUSR2 (what Slurm is told to send before a job's
// time is up). The handler sets a flag; the training loop looks at it between two steps.
#pragma once

namespace convoy {

void catch_signals();
int caught_signal();  // 0: none yet
const char* signal_name(int signal);

// Exit status of a run that saved and wants to be started again with --resume.
constexpr int kExitAgain = 75;

}  // namespace convoy
