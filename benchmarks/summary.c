/* Lines of measure.c on standard input -> one JSON object: medians of each method, number format and side, and cadtrain's ratios to the
 * faster of the Python sides. The same as a table on standard error. */
#include <cadtrain/format.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_ROWS = 1024, NUMBERS = 9 };
static const char *const numbers[NUMBERS] = {"tokens_per_second", "median_step_tokens_per_second", "share_of_matrix_peak", "peak_bytes", "first_step_seconds", "first_loss", "last_loss", "tokens_per_cpu_second", "share_of_matrix_peak_cpu"};
enum { SPEED, STEP_SPEED, SHARE, MEMORY, FIRST, FIRST_LOSS, LAST_LOSS, CPU_SPEED, CPU_SHARE };
typedef struct row { char method[16], dtype[16], side[16]; double number[NUMBERS]; } row;
typedef struct table { row row[MAX_ROWS]; int64_t count; } table;

static void copy(char out[16], const cad_node *root, const char *key)
{
    const char *text;

    if (!cad_get_string(root, key, &text, "")) text = "";
    snprintf(out, 16, "%s", text);
}

static cad_status read_rows(table *t)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    cad_status status = CAD_OK;

    while (!status && t->count < MAX_ROWS && (n = getline(&line, &room, stdin)) > 0) {
        cad_tree *tree;
        row *r = &t->row[t->count];
        if ((status = cad_json_parse(&tree, line, (size_t)n, "standard input", CAD_EDATA))) break;
        copy(r->method, tree->root, "method");
        copy(r->dtype, tree->root, "dtype");
        copy(r->side, tree->root, "side");
        for (int i = 0; i < NUMBERS; i++)
            if (!cad_get_real(tree->root, numbers[i], &r->number[i], NAN)) r->number[i] = NAN;
        t->count++;
        cad_tree_close(&tree);
    }
    free(line);
    return status;
}

static int ascending(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static bool same(const row *a, const row *b) { return !strcmp(a->method, b->method) && !strcmp(a->dtype, b->dtype); }

/* Median over the repeats of one side; false when there are none. */
static bool middle(const table *t, const row *like, const char *side, row *out, int64_t *repeats)
{
    double values[MAX_ROWS];
    size_t n = 0;

    for (int i = 0; i < NUMBERS; i++) {
        n = 0;
        for (int64_t k = 0; k < t->count; k++)
            if (same(&t->row[k], like) && !strcmp(t->row[k].side, side)) values[n++] = t->row[k].number[i];
        if (!n) return false;
        qsort(values, n, sizeof *values, ascending);
        out->number[i] = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
    }
    *repeats = (int64_t)n;
    return true;
}

static cad_status add_side(cad_json *j, const table *t, const row *like, const char *side, row *out, bool *found)
{
    int64_t repeats;

    if (!(*found = middle(t, like, side, out, &repeats))) return CAD_OK;
    CAD_TRY(cad_json_begin(j, side, '{'));
    CAD_TRY(cad_json_int(j, "repeats", repeats));
    for (int i = 0; i < NUMBERS; i++) CAD_TRY(cad_json_real(j, numbers[i], out->number[i]));
    fprintf(stderr, "%-5s %-5s %-9s %9.1f tok/s %6.1f %% of matrix peak %7.2f GB  first step %6.2f s  by processor time %8.1f tok/s %5.1f %%\n", like->method, like->dtype, side,
            out->number[SPEED], 100 * out->number[SHARE], out->number[MEMORY] / 1e9, out->number[FIRST], out->number[CPU_SPEED], 100 * out->number[CPU_SHARE]);
    return cad_json_end(j);
}

static cad_status add_ratios(cad_json *j, const row *ours, const row *peer, const char *name)
{
    double speed = ours->number[SPEED] / peer->number[SPEED], memory = ours->number[MEMORY] / peer->number[MEMORY], first = ours->number[FIRST] / peer->number[FIRST];
    double cpu_speed = ours->number[CPU_SPEED] / peer->number[CPU_SPEED];

    CAD_TRY(cad_json_begin(j, "ratio_to_faster_peer", '{'));
    CAD_TRY(cad_json_string(j, "peer", name));
    CAD_TRY(cad_json_real(j, "speed", speed));
    CAD_TRY(cad_json_real(j, "speed_by_cpu_time", cpu_speed));
    CAD_TRY(cad_json_real(j, "memory", memory));
    CAD_TRY(cad_json_real(j, "first_step", first));
    fprintf(stderr, "            cadtrain / %s: speed %.2f (by processor time %.2f), memory %.2f, first step %.2f\n", name, speed, cpu_speed, memory, first);
    return cad_json_end(j);
}

static cad_status add_case(cad_json *j, const table *t, const row *like)
{
    char key[40];
    row ours, trainer, plain;
    bool has_ours, has_trainer, has_plain, plain_is_faster;

    snprintf(key, sizeof key, "%s_%s", like->method, like->dtype);
    CAD_TRY(cad_json_begin(j, key, '{'));
    CAD_TRY(add_side(j, t, like, "cadtrain", &ours, &has_ours));
    CAD_TRY(add_side(j, t, like, "trainer", &trainer, &has_trainer));
    CAD_TRY(add_side(j, t, like, "plain", &plain, &has_plain));
    plain_is_faster = has_plain && (!has_trainer || plain.number[SPEED] > trainer.number[SPEED]);
    if (has_ours && (has_trainer || has_plain)) CAD_TRY(add_ratios(j, &ours, plain_is_faster ? &plain : &trainer, plain_is_faster ? "plain" : "trainer"));
    return cad_json_end(j);
}

static cad_status print(const table *t)
{
    cad_json j = {0};
    cad_status status = cad_json_begin(&j, NULL, '{');

    for (int64_t i = 0; i < t->count && !status; i++) {
        int64_t first = 0;
        while (!same(&t->row[first], &t->row[i])) first++;
        if (first == i) status = add_case(&j, t, &t->row[i]);
    }
    if (!status && !(status = cad_json_end(&j))) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

int main(void)
{
    static table t;
    cad_status status = read_rows(&t);

    if (!status) status = print(&t);
    if (status) cad_print_failure();
    return status;
}
