/* Runs one training and measures it from outside, the same way for every program:
 *
 *   measure CASE.json METHOD DTYPE SIDE PEAK LOG OUTPUT COMMAND…
 *
 * starts COMMAND (its output goes to OUTPUT; PEAK is GFLOP/s,GFLOP per second of processor time), waits for its lines in LOG (one JSON object a step: step, loss, and tokens or tokens_per_second
 * and seconds) and prints one JSON object: speed over all steps but the first, peak of resident memory, time to the end of the first step. */
#include <cadtrain/format.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_STEPS = 4096 };
typedef struct run {
    double began, ended, at[MAX_STEPS], loss[MAX_STEPS], tokens[MAX_STEPS], cpu[MAX_STEPS]; /* of step i + 1: when its line was there, what it said */
    int64_t steps, peak_bytes, read;                                        /* read: bytes of the log taken so far */
    double logged;                                                          /* `seconds` of the line before */
    int exit;
    pid_t child;
} run;

/* Processor time that the process has used, all threads; the clock for a machine that others use too. */
static double cpu_seconds(pid_t child)
{
    char path[64], text[1024], *at;
    long long user = 0, system = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)child);
    if (!(f = fopen(path, "r"))) return NAN;
    at = fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
    fclose(f);
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &system) != 2) return NAN;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static cad_status take_line(run *r, const char *line, size_t n, double now)
{
    cad_tree *tree;
    const cad_node *loss, *rate, *seconds, *tokens;

    CAD_TRY(cad_json_parse(&tree, line, n, "log", CAD_EDATA));
    loss = cad_get(tree->root, "loss");
    rate = cad_get(tree->root, "tokens_per_second");
    seconds = cad_get(tree->root, "seconds");
    tokens = cad_get(tree->root, "tokens");
    if (loss && r->steps < MAX_STEPS && (tokens || (rate && seconds))) {
        r->at[r->steps] = now;
        r->cpu[r->steps] = cpu_seconds(r->child);
        r->loss[r->steps] = loss->real;
        r->tokens[r->steps++] = tokens ? tokens->real : round(rate->real * (seconds->real - r->logged));
        if (seconds) r->logged = seconds->real;
    }
    cad_tree_close(&tree);
    return CAD_OK;
}

/* Takes the whole lines that the log has gained. */
static cad_status look(run *r, const char *log)
{
    struct stat now;
    char *text, *line;
    size_t size;
    double seen = cad_now();

    if (stat(log, &now) || now.st_size <= r->read) return CAD_OK;
    CAD_TRY(cad_read_file(&text, &size, log, (size_t)1 << 26, CAD_EDATA));
    line = text + r->read;
    for (char *end; (end = memchr(line, '\n', size - (size_t)(line - text))); line = end + 1) {
        cad_status status = take_line(r, line, (size_t)(end - line), seen);
        if (status) {
            cad_free(&text);
            return status;
        }
    }
    r->read = line - text;
    cad_free(&text);
    return CAD_OK;
}

static pid_t start(const char *output, char **command)
{
    pid_t child = fork();

    if (child) return child;
    int out = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(126);
    execvp(command[0], command);
    _exit(127);
}

static cad_status watch(run *r, const char *log, const char *output, char **command)
{
    struct rusage used;
    int ended = 0;
    pid_t done = 0;

    if (remove(log) && errno != ENOENT) return cad_fail(CAD_ERESOURCE, "%s: cannot remove: %s", log, strerror(errno));
    r->began = cad_now();
    if ((r->child = start(output, command)) < 0) return cad_fail(CAD_ERESOURCE, "cannot start %s: %s", command[0], strerror(errno));
    while (!done) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        CAD_TRY(look(r, log));
        done = wait4(r->child, &ended, WNOHANG, &used);
    }
    r->ended = cad_now();
    CAD_TRY(look(r, log));
    r->exit = WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
    r->peak_bytes = (int64_t)used.ru_maxrss * 1024;
    if (r->exit) return cad_fail(CAD_EINTERNAL, "%s ended with %d; it said why in %s", command[0], r->exit, output);
    return r->steps >= 2 ? CAD_OK : cad_fail(CAD_EDATA, "%s: expected at least 2 steps, found %lld", log, (long long)r->steps);
}

static double fact(const cad_tree *facts, const char *prefix, const char *name)
{
    char key[64];
    const cad_node *n;

    snprintf(key, sizeof key, "%s%s", prefix, name);
    n = cad_get(facts->root, key);
    return n ? n->real : NAN;
}

static int ascending(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

/* The middle step's rate, so that one disturbed step does not count. */
static double median_rate(const run *r)
{
    double rate[MAX_STEPS];
    size_t n = (size_t)r->steps - 1;

    for (int64_t i = 1; i < r->steps; i++) rate[i - 1] = r->tokens[i] / (r->at[i] - r->at[i - 1]);
    qsort(rate, n, sizeof *rate, ascending);
    return n % 2 ? rate[n / 2] : (rate[n / 2 - 1] + rate[n / 2]) / 2;
}

static cad_status print(const run *r, const cad_tree *facts, char **words)
{
    double tokens = 0, seconds = r->at[r->steps - 1] - r->at[0], flop = fact(facts, "flop_per_token_", strcmp(words[1], "qlora") ? words[1] : "lora"), rate, cpu_rate, peak, peak_cpu = 0;
    char *comma;
    cad_json j = {0};
    cad_status status = CAD_OK;

    for (int64_t i = 1; i < r->steps; i++) tokens += r->tokens[i];
    rate = tokens / seconds;
    cpu_rate = tokens / (r->cpu[r->steps - 1] - r->cpu[0]);
    peak = strtod(words[4], &comma) * 1e9;
    if (*comma == ',') peak_cpu = strtod(comma + 1, NULL) * 1e9;
    if (!(status = cad_json_begin(&j, NULL, '{')) && !(status = cad_json_string(&j, "method", words[1])) && !(status = cad_json_string(&j, "dtype", words[2])) &&
        !(status = cad_json_string(&j, "side", words[3])) && !(status = cad_json_int(&j, "steps", r->steps)) && !(status = cad_json_real(&j, "tokens_per_second", rate)) &&
        !(status = cad_json_real(&j, "median_step_tokens_per_second", median_rate(r))) && !(status = cad_json_real(&j, "tokens_per_cpu_second", cpu_rate)) &&
        !(status = cad_json_real(&j, "share_of_matrix_peak", peak > 0 ? rate * flop / peak : NAN)) &&
        !(status = cad_json_real(&j, "share_of_matrix_peak_cpu", peak_cpu > 0 ? cpu_rate * flop / peak_cpu : NAN)) &&
        !(status = cad_json_int(&j, "peak_bytes", r->peak_bytes)) && !(status = cad_json_real(&j, "first_step_seconds", r->at[0] - r->began)) &&
        !(status = cad_json_real(&j, "seconds", r->ended - r->began)) && !(status = cad_json_real(&j, "tokens", tokens + r->tokens[0])) &&
        !(status = cad_json_real(&j, "first_loss", r->loss[0])) && !(status = cad_json_real(&j, "last_loss", r->loss[r->steps - 1])) && !(status = cad_json_end(&j)))
        puts(j.text.data);
    cad_json_close(&j);
    return status;
}

int main(int argc, char **argv)
{
    static run r;
    cad_tree *facts = NULL;
    cad_status status = argc < 9 ? cad_fail(CAD_EUSAGE, "expected measure CASE.json METHOD DTYPE SIDE PEAK,PEAK_CPU LOG OUTPUT COMMAND...") : CAD_OK;

    if (!status) status = cad_json_read(&facts, argv[1], 65536, CAD_EDATA);
    if (!status) status = watch(&r, argv[6], argv[7], argv + 8);
    if (!status) status = print(&r, facts, argv + 1);
    cad_tree_close(&facts);
    if (status) cad_print_failure();
    return status;
}
