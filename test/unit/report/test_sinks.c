#include <cadtrain/report.h>

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH = 1024 };

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cadtrain-sinks-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    return cad_remove_tree(folder) ? -1 : 0;
}

static char *slurp(const char *name, size_t *size)
{
    char path[PATH], *text = NULL;
    size_t n = 0;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(cad_read_file(&text, &n, path, 1 << 20, CAD_ERESOURCE), CAD_OK);
    if (size) *size = n;
    return text;
}

static void check_file(const char *name, const char *want)
{
    char *text = slurp(name, NULL);

    assert_string_equal(text, want);
    cad_free(&text);
}

static int mode_of(const char *name)
{
    char path[PATH];
    struct stat info;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(stat(path, &info), 0);
    return (int)(info.st_mode & 0777);
}

static cad_log_sinks *open_sinks(bool append, int64_t keep)
{
    const cad_sink_options o = {.output_dir = folder, .jsonl = true, .csv = true, .tensorboard = true, .append = append};
    cad_log_sinks *s = NULL;

    assert_int_equal(cad_log_sinks_open(&s, &o, keep), CAD_OK);
    return s;
}

static void log_training(cad_log_sinks *s, int64_t step, double loss)
{
    const cad_number row[] = {{"epoch", (double)step / 10, false}, {"loss", loss, false}, {"peak_bytes", 1024, true}};

    cad_log_row(s, step, row, 3);
}

static void log_evaluation(cad_log_sinks *s, int64_t step, double loss, double auc)
{
    const cad_number row[] = {{"eval_loss", loss, false}, {"eval_auc", auc, false}};

    cad_log_row(s, step, row, 2);
}

/* ---- log.jsonl and metrics.csv ---- */

static void rows_stand_in_jsonl_with_full_precision(void **state)
{
    (void)state;
    cad_log_sinks *s = open_sinks(false, 0);

    log_training(s, 5, 0.1 + 0.2);
    log_evaluation(s, 5, NAN, 0.75);
    cad_log_sinks_close(&s);
    assert_null(s);
    check_file("log.jsonl", "{\"step\": 5, \"epoch\": 0.5, \"loss\": 0.30000000000000004, \"peak_bytes\": 1024}\n"
                            "{\"step\": 5, \"eval_loss\": NaN, \"eval_auc\": 0.75}\n");
    assert_int_equal(mode_of("log.jsonl"), 0600);
    assert_int_equal(mode_of("metrics.csv"), 0600);
    assert_int_equal(mode_of("runs"), 0700);
}

static void the_csv_header_grows_and_old_rows_with_it(void **state)
{
    (void)state;
    cad_log_sinks *s = open_sinks(false, 0);

    log_training(s, 5, 0.5);
    log_evaluation(s, 5, 0.25, 0.75);
    log_training(s, 6, 0.125);
    cad_log_sinks_close(&s);
    check_file("metrics.csv", "step,epoch,loss,grad_norm,learning_rate,tokens_per_second,mfu,peak_bytes,wire_bytes,seconds,eval_loss,eval_auc\n"
                              "5,0.5,0.5,,,,,1024,,,,\n5,,,,,,,,,,0.25,0.75\n6,0.6,0.125,,,,,1024,,,,\n");
}

static void a_resumed_run_drops_what_it_will_write_again(void **state)
{
    (void)state;
    char path[PATH];
    FILE *f;
    cad_log_sinks *s = open_sinks(false, 0);

    for (int i = 1; i <= 4; i++) log_training(s, i, 1.0 / i);
    log_evaluation(s, 4, 0.25, 0.75);
    cad_log_sinks_close(&s);
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    f = fopen(path, "a");
    fputs("{\"step\": 1, \"lo", f); /* a crash in the middle of a row */
    fclose(f);
    s = open_sinks(true, 2);
    log_training(s, 3, 9);
    cad_log_sinks_close(&s);
    check_file("log.jsonl", "{\"step\": 1, \"epoch\": 0.1, \"loss\": 1.0, \"peak_bytes\": 1024}\n"
                            "{\"step\": 2, \"epoch\": 0.2, \"loss\": 0.5, \"peak_bytes\": 1024}\n"
                            "{\"step\": 3, \"epoch\": 0.3, \"loss\": 9.0, \"peak_bytes\": 1024}\n");
    check_file("metrics.csv", "step,epoch,loss,grad_norm,learning_rate,tokens_per_second,mfu,peak_bytes,wire_bytes,seconds,eval_loss,eval_auc\n"
                              "1,0.1,1.0,,,,,1024,,,,\n2,0.2,0.5,,,,,1024,,,,\n3,0.3,9.0,,,,,1024,,,,\n");
}

static void a_fresh_run_starts_empty_files(void **state)
{
    (void)state;
    cad_log_sinks *s = open_sinks(false, 0);

    log_training(s, 1, 1);
    cad_log_sinks_close(&s);
    s = open_sinks(false, 0);
    cad_log_sinks_close(&s);
    check_file("log.jsonl", "");
}

static void a_sink_that_cannot_write_is_left_out_and_the_others_go_on(void **state)
{
    (void)state;
    char path[PATH];
    char *text;
    cad_log_sinks *s;

    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    fflush(stderr);
    s = open_sinks(false, 0);
    log_training(s, 1, 0.5);
    cad_log_sinks_close(&s);
    assert_string_equal(cad_reason(), "");
    text = slurp("metrics.csv", NULL);
    assert_non_null(strstr(text, "\n1,0.1,0.5,"));
    cad_free(&text);
}

static void no_sinks_at_all_are_allowed(void **state)
{
    (void)state;
    const cad_sink_options o = {.output_dir = folder};
    cad_log_sinks *s = NULL;

    assert_int_equal(cad_log_sinks_open(&s, &o, 0), CAD_OK);
    log_training(s, 1, 0.5);
    cad_log_sinks_close(&s);
    cad_log_sinks_close(&s);
    cad_log_row(NULL, 1, NULL, 0);
}

static void no_failed_allocation_stops_the_log_or_leaks(void **state)
{
    (void)state;
    int64_t before = cad_mem_blocks();

    for (int nth = 1; nth < 60; nth++) {
        const cad_sink_options o = {.output_dir = folder, .jsonl = true, .csv = true, .tensorboard = true, .append = nth % 2 == 0};
        cad_log_sinks *s = NULL;
        cad_mem_fail_at(nth);
        cad_status status = cad_log_sinks_open(&s, &o, 1);
        if (!status) log_evaluation(s, 1, 0.5, 0.5);
        cad_mem_fail_at(0);
        cad_log_sinks_close(&s);
        cad_clear();
        assert_int_equal(cad_mem_blocks(), before);
    }
}

/* ---- TensorBoard: a decoder of just what is written ---- */

typedef struct scalar { char tag[64]; int64_t step; float value; } scalar;
typedef struct decoded { scalar at[64]; int count, records, restarts; int64_t restart_step; bool version; double wall; } decoded;

static uint64_t little_endian(const unsigned char *b, int n)
{
    uint64_t x = 0;

    for (int i = n - 1; i >= 0; i--) x = x << 8 | b[i];
    return x;
}

static uint32_t masked(const void *bytes, size_t n)
{
    uint32_t c = cad_crc32c(0, bytes, n);

    return ((c >> 15) | (c << 17)) + 0xa282ead8u;
}

static uint64_t varint(const unsigned char **at)
{
    uint64_t x = 0;

    for (int shift = 0;; shift += 7) {
        unsigned char b = *(*at)++;
        x |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return x;
    }
}

static void decode_value(decoded *d, int64_t step, const unsigned char *at, const unsigned char *end)
{
    scalar *s = &d->at[d->count++];

    s->step = step;
    while (at < end) {
        uint64_t key = varint(&at);
        if (key == (1 << 3 | 2)) {
            uint64_t n = varint(&at);
            assert_true(n < sizeof s->tag);
            memcpy(s->tag, at, n);
            at += n;
        } else {
            uint32_t bits = (uint32_t)little_endian(at, 4);
            assert_int_equal(key, 2 << 3 | 5);
            memcpy(&s->value, &bits, 4);
            at += 4;
        }
    }
    assert_ptr_equal(at, end);
}

static void decode_event(decoded *d, const unsigned char *at, const unsigned char *end)
{
    int64_t step = 0;

    while (at < end) {
        uint64_t key = varint(&at), n;
        if (key == (1 << 3 | 1)) {
            uint64_t bits = little_endian(at, 8);
            memcpy(&d->wall, &bits, 8);
            at += 8;
        } else if (key == (2 << 3 | 0)) {
            step = (int64_t)varint(&at);
        } else {
            n = varint(&at);
            if (key == (3 << 3 | 2)) d->version = n == 13 && !memcmp(at, "brain.Event:2", 13);
            else if (key == (7 << 3 | 2)) {
                assert_memory_equal(at, "\x08\x01", 2);
                d->restarts++;
                d->restart_step = step;
            } else {
                const unsigned char *in = at, *stop = at + n;
                assert_int_equal(key, 5 << 3 | 2);
                while (in < stop) {
                    uint64_t size;
                    assert_int_equal(varint(&in), 1 << 3 | 2);
                    size = varint(&in);
                    decode_value(d, step, in, in + size);
                    in += size;
                }
            }
            at += n;
        }
    }
    assert_ptr_equal(at, end);
}

static void decode(decoded *d, const char *path)
{
    char *text = NULL;
    size_t size = 0, at = 0;

    assert_int_equal(cad_read_file(&text, &size, path, 1 << 20, CAD_ERESOURCE), CAD_OK);
    while (at < size) {
        const unsigned char *b = (const unsigned char *)text + at;
        uint64_t n;
        assert_true(size - at >= 16);
        n = little_endian(b, 8);
        assert_true(n <= size - at - 16);
        assert_int_equal(little_endian(b + 8, 4), masked(b, 8));
        assert_int_equal(little_endian(b + 12 + n, 4), masked(b + 12, n));
        decode_event(d, b + 12, b + 12 + n);
        d->records++;
        at += 16 + n;
    }
    cad_free(&text);
}

/* Decodes every event file below `dir`; returns how many there were. */
static int decode_folder(decoded *d, const char *dir)
{
    DIR *open = opendir(dir);
    int files = 0;

    assert_non_null(open);
    for (struct dirent *e; (e = readdir(open));) {
        char path[PATH];
        struct stat info;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        assert_int_equal(stat(path, &info), 0);
        if (S_ISDIR(info.st_mode)) files += decode_folder(d, path);
        else {
            assert_memory_equal(e->d_name, "events.out.tfevents.", 20);
            assert_int_equal(info.st_mode & 0777, 0600);
            decode(d, path);
            files++;
        }
    }
    closedir(open);
    return files;
}

static void the_crc_is_the_one_of_tensorboard(void **state)
{
    (void)state;
    assert_int_equal(cad_crc32c(0, "123456789", 9), 0xe3069283u);
}

static void tensorboard_records_decode_to_what_was_logged(void **state)
{
    (void)state;
    decoded d = {0};
    char runs[PATH];
    cad_log_sinks *s = open_sinks(false, 0);

    log_training(s, 300, 0.5);
    log_evaluation(s, 301, NAN, 0.75);
    cad_log_sinks_close(&s);
    snprintf(runs, sizeof runs, "%s/runs", folder);
    assert_int_equal(decode_folder(&d, runs), 1);
    assert_true(d.version && d.records == 3 && d.count == 5 && d.restarts == 0);
    assert_string_equal(d.at[0].tag, "train/epoch");
    assert_string_equal(d.at[1].tag, "train/loss");
    assert_true(d.at[1].step == 300 && d.at[1].value == 0.5f);
    assert_true(d.at[2].value == 1024);
    assert_string_equal(d.at[3].tag, "eval/loss");
    assert_true(isnan(d.at[3].value));
    assert_true(!strcmp(d.at[4].tag, "eval/auc") && d.at[4].step == 301 && d.at[4].value == 0.75f);
    assert_true(d.wall > 1.6e9);
}

static void a_resumed_run_tells_tensorboard_where_it_starts_again(void **state)
{
    (void)state;
    decoded d = {0};
    char runs[PATH];
    cad_log_sinks *s = open_sinks(false, 0);

    log_training(s, 1, 0.5);
    cad_log_sinks_close(&s);
    s = open_sinks(true, 1);
    log_training(s, 2, 0.25);
    cad_log_sinks_close(&s);
    snprintf(runs, sizeof runs, "%s/runs", folder);
    assert_int_equal(decode_folder(&d, runs), 2);
    assert_true(d.restarts == 1 && d.restart_step == 2 && d.count == 6);
}

static void a_logging_dir_is_taken_as_it_is(void **state)
{
    (void)state;
    decoded d = {0};
    char dir[PATH], runs[PATH];
    const cad_sink_options o = {.output_dir = folder, .logging_dir = dir, .tensorboard = true};
    cad_log_sinks *s = NULL;

    snprintf(dir, sizeof dir, "%s/my/logs", folder);
    snprintf(runs, sizeof runs, "%s/runs", folder);
    assert_int_equal(cad_log_sinks_open(&s, &o, 0), CAD_OK);
    log_training(s, 1, 0.5);
    cad_log_sinks_close(&s);
    assert_int_equal(decode_folder(&d, dir), 1);
    assert_int_equal(d.count, 3);
    assert_false(cad_is_dir(runs));
}

/* ---- what goes to the terminal ---- */

static char *captured(int fd, void (*act)(void))
{
    char path[PATH];
    int kept = dup(fd);

    snprintf(path, sizeof path, "%s/captured", folder);
    fflush(NULL);
    assert_non_null(freopen(path, "w", fd == STDOUT_FILENO ? stdout : stderr));
    act();
    fflush(NULL);
    dup2(kept, fd);
    close(kept);
    return slurp("captured", NULL);
}

static void log_to_console(void)
{
    const cad_sink_options o = {.output_dir = folder, .console = true};
    const cad_number train[] = {{"epoch", 0.5, false}, {"loss", 0.693147, false}, {"learning_rate", 2e-05, false}, {"tokens_per_second", 21480.4, false},
                                {"peak_bytes", 3221225472.0, true}};
    const cad_number eval[] = {{"eval_loss", NAN, false}, {"eval_auc", 0.81239, false}, {"epoch", 1, false}};
    cad_log_sinks *s = NULL;

    if (cad_log_sinks_open(&s, &o, 0)) return;
    cad_log_row(s, 10, train, 5);
    cad_log_row(s, 20, eval, 3);
    cad_log_sinks_close(&s);
}

static void console_lines_are_python_dicts_with_four_digits(void **state)
{
    (void)state;
    char *text = captured(STDOUT_FILENO, log_to_console);

    assert_string_equal(text, "{'loss': 0.6931, 'learning_rate': 2e-05, 'epoch': 0.5, 'step': 10, 'tok_s': 21480, 'mem_gib': 3.0}\n"
                              "{'eval_loss': nan, 'eval_auc': 0.8124, 'epoch': 1.0, 'step': 20}\n");
    cad_free(&text);
}

static void print_block(void)
{
    const cad_number numbers[] = {{"train_runtime", 3723.456, false}, {"epoch", 3, false}, {"train_loss", 0.123456, false}, {"train_samples", 21344, true},
                                  {"total_flos", 442778968883.0, false}};

    cad_print_metrics_block("train", numbers, 5);
}

static void the_metrics_block_is_aligned_and_sorted_as_the_trainers(void **state)
{
    (void)state;
    char *text = captured(STDOUT_FILENO, print_block);

    assert_string_equal(text, "***** train metrics *****\n"
                              "  epoch         =        3.0\n"
                              "  total_flos    =      412GF\n"
                              "  train_loss    =     0.1235\n"
                              "  train_runtime = 1:02:03.45\n"
                              "  train_samples =      21344\n");
    cad_free(&text);
}

static void work_in_a_file(void)
{
    cad_progress p;

    cad_progress_begin(&p, "tokenizing", 10);
    for (int i = 1; i <= 10; i++) cad_progress_at(&p, i);
    cad_progress_end(&p);
}

static void a_log_file_gets_no_progress_bar(void **state)
{
    (void)state;
    char *text = captured(STDERR_FILENO, work_in_a_file);

    assert_string_equal(text, "");
    cad_free(&text);
}

static void work_on_a_terminal(void)
{
    cad_progress p;

    cad_progress_begin(&p, "tokenizing", 10);
    p.on = true;
    for (int i = 1; i <= 10; i++) cad_progress_at(&p, i);
    cad_progress_end(&p);
}

static void a_terminal_gets_a_bar_that_ends_full(void **state)
{
    (void)state;
    char *text = captured(STDERR_FILENO, work_on_a_terminal);

    assert_non_null(strstr(text, "\rtokenizing: 100% |########################| 10/10 ["));
    assert_int_equal(text[strlen(text) - 1], '\n');
    cad_free(&text);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(rows_stand_in_jsonl_with_full_precision),
        IN_FOLDER(the_csv_header_grows_and_old_rows_with_it),
        IN_FOLDER(a_resumed_run_drops_what_it_will_write_again),
        IN_FOLDER(a_fresh_run_starts_empty_files),
        IN_FOLDER(a_sink_that_cannot_write_is_left_out_and_the_others_go_on),
        IN_FOLDER(no_sinks_at_all_are_allowed),
        IN_FOLDER(no_failed_allocation_stops_the_log_or_leaks),
        cmocka_unit_test(the_crc_is_the_one_of_tensorboard),
        IN_FOLDER(tensorboard_records_decode_to_what_was_logged),
        IN_FOLDER(a_resumed_run_tells_tensorboard_where_it_starts_again),
        IN_FOLDER(a_logging_dir_is_taken_as_it_is),
        IN_FOLDER(console_lines_are_python_dicts_with_four_digits),
        IN_FOLDER(the_metrics_block_is_aligned_and_sorted_as_the_trainers),
        IN_FOLDER(a_log_file_gets_no_progress_bar),
        IN_FOLDER(a_terminal_gets_a_bar_that_ends_full),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    if (cad_mem_blocks()) print_error("%lld blocks alive\n", (long long)cad_mem_blocks());
    return failed || cad_mem_blocks() ? 1 : 0;
}
