#include "runtime/launch/witness.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace elsewhere::runtime {
namespace {

// In a group of its own with a witness, so that the rest of the test run is not signalled. The exit status is
// the number of rounds that went wrong.
template <class Rounds>
int InOwnGroup(Rounds rounds) {
  const pid_t child = fork();
  if (child == 0) {
    setpgid(0, 0);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    _exit(rounds());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

void Take(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  sigwaitinfo(&set, nullptr);
}

TEST(Witness, SeesWhatTheWholeGroupGets) {
  EXPECT_EQ(InOwnGroup([] {
              Witness witness;
              int wrong = 0;
              for (int round = 0; round < 100; ++round) {
                kill(0, SIGINT);
                kill(0, SIGTERM);  // taken after the question for the other
                Take(SIGINT);
                wrong += witness.Saw(SIGINT) ? 0 : 1;
                Take(SIGTERM);
                wrong += witness.Saw(SIGTERM) ? 0 : 1;
                wrong += witness.Saw(SIGINT) || witness.Saw(SIGTERM) ? 1 : 0;  // forgotten
              }
              return wrong;
            }),
            0);
}

TEST(Witness, DoesNotSeeWhatItsMakerAloneGets) {
  EXPECT_EQ(InOwnGroup([] {
              Witness witness;
              int wrong = 0;
              for (int round = 0; round < 100; ++round) {
                kill(getpid(), SIGINT);
                kill(0, SIGTERM);
                Take(SIGINT);
                wrong += witness.Saw(SIGINT) ? 1 : 0;
                Take(SIGTERM);
                wrong += witness.Saw(SIGTERM) ? 0 : 1;
              }
              return wrong;
            }),
            0);
}

// As a launcher meets it: it is woken by a signal that somebody else is still sending to the rest of the
// group.
TEST(Witness, SeesASignalThatIsStillBeingSent) {
  EXPECT_EQ(InOwnGroup([] {
              Witness witness;
              int wrong = 0;
              for (int round = 0; round < 200; ++round) {
                const pid_t sender = fork();
                if (sender == 0) _exit(kill(0, SIGINT));
                Take(SIGINT);
                wrong += witness.Saw(SIGINT) ? 0 : 1;
                waitpid(sender, nullptr, 0);
              }
              return wrong;
            }),
            0);
}

TEST(Witness, DiesWithItsMaker) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  const pid_t child = fork();
  if (child == 0) {
    Witness witness;
    _exit(kill(getpid(), SIGKILL));
  }
  waitpid(child, nullptr, 0);
  EXPECT_GT(waitpid(-1, nullptr, 0), 0) << "the orphan is this process's now, and ends";
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

}  // namespace
}  // namespace elsewhere::runtime
