#include <cadtrain/report.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

static void clock_text(char out[32], double seconds)
{
    int64_t s = seconds > 0 && seconds < 3.6e8 ? (int64_t)(seconds + 0.5) : 0;

    if (s < 3600) snprintf(out, 32, "%02" PRId64 ":%02" PRId64, s / 60, s % 60);
    else snprintf(out, 32, "%" PRId64 ":%02" PRId64 ":%02" PRId64, s / 3600, s / 60 % 60, s % 60);
}

static void draw(const cad_progress *p, int64_t done, double now)
{
    enum { WIDTH = 24 };
    char bar[WIDTH + 1], spent[32], left[32];
    double took = now - p->began, share = p->total > 0 ? fmin((double)done / (double)p->total, 1) : 0;
    int full = (int)(share * WIDTH);

    for (int i = 0; i < WIDTH; i++) bar[i] = i < full ? '#' : '.';
    bar[WIDTH] = 0;
    clock_text(spent, took);
    clock_text(left, done > 0 ? took * (double)(p->total - done) / (double)done : 0);
    fprintf(stderr, "\r%s: %3.0f%% |%s| %" PRId64 "/%" PRId64 " [%s<%s, %.4g/s]\033[K", p->what, 100 * share, bar, done, p->total, spent,
            done > 0 ? left : "?", took > 0 ? (double)done / took : 0);
    fflush(stderr);
}

void cad_progress_begin(cad_progress *p, const char *what, int64_t total)
{
    *p = (cad_progress){.what = what, .total = total, .began = cad_now(), .drawn = -1, .on = isatty(STDERR_FILENO) == 1};
}

void cad_progress_at(cad_progress *p, int64_t done)
{
    double now;

    if (!p->on) return;
    now = cad_now();
    if (p->drawn >= 0 && now - p->drawn < 0.1 && done < p->total) return;
    p->drawn = now;
    draw(p, done, now);
}

void cad_progress_end(cad_progress *p)
{
    if (p->on && p->drawn >= 0) fputc('\n', stderr);
    p->on = false;
}
