/* Signals set a flag and nothing else: the ranks agree on it after each step. SIGCONT follows some schedulers' signals within milliseconds, so
 * it must not touch the flag. */
#include "train_priv.h"

#include <signal.h>

static volatile sig_atomic_t asked; /* a handler can reach nothing else */

static void note(int signal_number)
{
    if (!asked) asked = signal_number;
}

/* SA_RESETHAND: the second SIGINT finds the default action and ends the process at once. */
static void watch(int signal_number, int flags)
{
    struct sigaction a = {.sa_handler = note, .sa_flags = SA_RESTART | flags};

    sigemptyset(&a.sa_mask);
    (void)sigaction(signal_number, &a, NULL);
}

void cad_signals_setup(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    asked = 0;
    watch(SIGTERM, 0);
    watch(SIGUSR1, 0);
    watch(SIGINT, SA_RESETHAND);
    sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

int cad_signals_stop(void) { return asked; }
