#include <cadtrain/base.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { PATIENCE_MS = 200 };
static int (*stopping)(void);

void cad_print_while(int (*stop)(void)) { stopping = stop; }

/* Whether somebody takes what is written. A pipe that polls as writable has room for PIPE_BUF bytes. */
static bool taken(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

    for (;;) {
        int n = poll(&p, 1, PATIENCE_MS);
        if (n > 0) return true;
        if (n < 0 && errno != EINTR) return false;
        if (!n && stopping && stopping()) return false;
    }
}

void cad_print(const char *text)
{
    size_t left = strlen(text);

    fflush(stdout);
    while (left && taken()) {
        ssize_t n = write(STDOUT_FILENO, text, left < PIPE_BUF ? left : PIPE_BUF);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        text += n;
        left -= (size_t)n;
    }
}
