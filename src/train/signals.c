/* Signals set a flag and nothing else: the ranks agree on it after each step. SIGCONT follows some schedulers' signals within milliseconds, so
 * it must not touch the flag. Handlers run on a stack of their own: while oneDNN's sgemm computes, the stack pointer points into a block of
 * the heap, and the frame of a handler would overwrite what lies below. Threads of a team block signals for the same reason. */
#include "train_priv.h"

#include <signal.h>

static volatile sig_atomic_t asked; /* a handler can reach nothing else */
static _Alignas(64) char stack[1 << 16]; /* AVX-512 and AMX registers take 12 KB of a frame */

static void note(int signal_number)
{
    if (!asked) asked = signal_number;
}

/* SA_RESETHAND: the second SIGINT finds the default action and ends the process at once. */
static void watch(int signal_number, int flags)
{
    struct sigaction a = {.sa_handler = note, .sa_flags = SA_RESTART | SA_ONSTACK | flags};

    sigemptyset(&a.sa_mask);
    (void)sigaction(signal_number, &a, NULL);
}

void cad_signals_setup(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    asked = 0;
    cad_print_while(cad_signals_stop);
    (void)sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    watch(SIGTERM, 0);
    watch(SIGUSR1, 0);
    watch(SIGINT, SA_RESETHAND);
    sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)sigaction(SIGXFSZ, &ignore, NULL); /* a file that grows too large is a write that fails */
}

int cad_signals_stop(void) { return asked; }
