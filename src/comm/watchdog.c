#include "comm_priv.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const double LONGEST_NAP = 1, GRACE = 2; /* to end by itself after a failure that it was told of */

/* The one piece of state of a process: it must be reached from everywhere that makes progress. */
static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running, stop;
    double seconds;
    int rank;
    atomic_ulong beats;
    _Atomic(const char *) doing;
    _Atomic int64_t step;
    bool (*well)(void *with); /* cadp_watchdog_also */
    void *with;
    const char *words;
} dog = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct timespec after(double seconds)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (long)(seconds * 1e9);
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static double now(void)
{
    struct timespec t = after(0);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noreturn)) static void end_with(const char *why, cad_status code)
{
    char text[768];
    int n = snprintf(text, sizeof text, "cadtrain: error: rank %d: %s in step %lld while %s\n", dog.rank, why, (long long)atomic_load(&dog.step), atomic_load(&dog.doing));

    if (n > (int)sizeof text - 1) n = (int)sizeof text - 1;
    if (write(STDERR_FILENO, text, (size_t)n) < 0) _exit(code);
    /* Who waits for a rank that hangs is idle as long as that rank: the first exit ends all, so everybody's line must be out by then. */
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    _exit(code); /* MPI belongs to the other thread: the launcher sees the exit and ends the other ranks */
}

__attribute__((noreturn)) static void bite(void)
{
    char why[64];

    snprintf(why, sizeof why, "no progress for %g s", dog.seconds);
    end_with(why, CAD_EWATCHDOG);
}

void cadp_watchdog_also(bool (*well)(void *with), void *with, const char *words)
{
    pthread_mutex_lock(&dog.lock);
    dog.well = well;
    dog.with = with;
    dog.words = words;
    pthread_mutex_unlock(&dog.lock);
}

/* Idle time is counted nap by nap, none longer than LONGEST_NAP: a process that was stopped (SIGSTOP, a suspended job) was not idle. */
static void *watch(void *unused)
{
    double nap = dog.seconds / 20 < 0.25 ? dog.seconds / 20 : 0.25, idle = 0, failed = 0, before = now();
    unsigned long seen = atomic_load(&dog.beats);

    pthread_mutex_lock(&dog.lock);
    while (!dog.stop) {
        struct timespec until = after(nap);
        pthread_cond_timedwait(&dog.wake, &dog.lock, &until);
        double at = now(), gap = at - before;
        unsigned long beats = atomic_load(&dog.beats);
        idle = beats != seen ? 0 : idle + (gap < LONGEST_NAP ? gap : LONGEST_NAP);
        seen = beats;
        before = at;
        failed = dog.well && !dog.well(dog.with) ? failed + gap : 0;
        if (!dog.stop && failed >= GRACE) end_with(dog.words, CAD_EINTERNAL);
        if (!dog.stop && idle >= dog.seconds) bite();
    }
    pthread_mutex_unlock(&dog.lock);
    return unused;
}

static void make_clock(void)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&dog.wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Without signals: they are for the threads that work. */
static int start_thread(void)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&dog.thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

cad_status cad_watchdog_start(double seconds, int rank)
{
    CAD_ASSERT(!dog.running && seconds >= 0);
    if (!(seconds > 0)) return CAD_OK;
    dog.seconds = seconds;
    dog.rank = rank;
    dog.stop = false;
    atomic_store(&dog.doing, "starting");
    atomic_store(&dog.step, 0);
    make_clock();
    int code = start_thread();
    if (code) {
        pthread_cond_destroy(&dog.wake);
        return cad_fail(CAD_ERESOURCE, "the watchdog's thread does not start: %s", strerror(code));
    }
    dog.running = true;
    return CAD_OK;
}

void cad_watchdog_beat(const char *doing, int64_t step)
{
    atomic_store_explicit(&dog.doing, doing, memory_order_relaxed);
    atomic_store_explicit(&dog.step, step, memory_order_relaxed);
    atomic_fetch_add_explicit(&dog.beats, 1, memory_order_release);
}

void cad_watchdog_stop(void)
{
    if (!dog.running) return;
    pthread_mutex_lock(&dog.lock);
    dog.stop = true;
    pthread_cond_signal(&dog.wake);
    pthread_mutex_unlock(&dog.lock);
    pthread_join(dog.thread, NULL);
    pthread_cond_destroy(&dog.wake);
    dog.running = false;
}
