/* From extracts to labelled records: read, label, split, check, score, write. */
#include "cohort_priv.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static cad_status open_lists(cadp_cohort *c)
{
    CAD_TRY(cadp_dictionary_open(&c->dictionary, c->plan->dictionary));
    CAD_TRY(cadp_fields_open(&c->fields, c->plan->fields));
    CAD_TRY(cadp_phenotype_open(&c->phenotype, c->plan->phenotype));
    return cadp_censoring_open(&c->censoring, c->plan->censoring);
}

static cad_status read_all(cadp_cohort *c)
{
    if (c->plan->withdrawals) CAD_TRY(cadp_read_withdrawals(c, c->plan->withdrawals));
    for (int i = 0; i < c->plan->extracts.count; i++) CAD_TRY(cadp_read_extract(c, c->plan->extracts.word[i], i));
    if (!c->people) return cad_fail(CAD_EDATA, "expected people in the extracts, found none");
    return cadp_read_records(c);
}

/* Fields nobody has: a misspelt list, or a basket that is not there. */
static void say_empty_fields(const cadp_cohort *c)
{
    for (int e = 0; e < c->fields.entries; e++) {
        bool any = false;
        for (int64_t i = 0; i < c->people && !any; i++)
            for (int k = 0; k < (c->fields.entry[e].fields ? c->fields.entry[e].fields : 1) && !any; k++) any = !isnan(cadp_slots(c, i)[c->fields.entry[e].slot + k]);
        if (!any) cad_warn("empty fields", "field %s: no extract has a value of it", c->fields.entry[e].name);
    }
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Fifths of deprivation among those in the study. */
static cad_status find_fifths(cadp_cohort *c)
{
    double *v = NULL;
    int64_t n = 0;

    for (int k = 0; k < 4; k++) c->townsend[k] = NAN;
    CAD_TRY(cad_alloc(&v, (size_t)c->people, sizeof *v, "deprivation"));
    for (int64_t i = 0; i < c->people; i++) {
        double t = cadp_is_in(&c->person[i]) ? cadp_named_value(c, "townsend", i) : NAN;
        if (!isnan(t)) v[n++] = t;
    }
    qsort(v, (size_t)n, sizeof *v, rising);
    for (int k = 0; n && k < 4; k++) c->townsend[k] = v[n * (k + 1) / 5];
    cad_free(&v);
    return CAD_OK;
}

/* ---- salted row ids: nobody without private/salt can go back from them ---- */

static cad_status draw_salt(char salt[65])
{
    unsigned char bytes[32];
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);

    if (fd >= 0) close(fd);
    if (n != (ssize_t)sizeof bytes) return cad_fail(CAD_ERESOURCE, "/dev/urandom: cannot read");
    for (int i = 0; i < 32; i++) snprintf(salt + 2 * i, 3, "%02x", bytes[i]);
    return CAD_OK;
}

static cad_status find_salt(cadp_cohort *c)
{
    char *dir = NULL, *path = NULL, *text = NULL;
    size_t size = 0;
    cad_status st = cad_path_join(&dir, c->plan->output_dir, "private");

    if (!st) st = cad_path_join(&path, dir, "salt");
    if (!st) st = cad_mkdirs(dir);
    if (!st && cad_is_file(path)) st = cad_read_file(&text, &size, path, 64, CAD_EDATA);
    if (!st && size == 64) memcpy(c->salt, text, 65);
    else if (!st) {
        st = draw_salt(c->salt);
        if (!st) st = cad_write_file(path, c->salt, 64);
    }
    cad_free(&text);
    cad_free(&path);
    cad_free(&dir);
    return st;
}

static void salt_rows(cadp_cohort *c)
{
    for (int64_t i = 0; i < c->people; i++) {
        char text[128], hex[65], first[17];
        cad_sha256 s;
        int n = snprintf(text, sizeof text, "%s%lld", c->salt, (long long)c->person[i].eid);
        cad_sha256_begin(&s);
        cad_sha256_add(&s, text, (size_t)n);
        cad_sha256_end(&s, hex);
        memcpy(first, hex, 16);
        first[16] = 0;
        c->person[i].row = strtoull(first, NULL, 16);
    }
}

static cad_status prepare(cadp_cohort *c)
{
    CAD_TRY(open_lists(c));
    CAD_TRY(cadp_check_fields(c));
    CAD_TRY(read_all(c));
    say_empty_fields(c);
    CAD_TRY(cadp_label(c));
    CAD_TRY(cadp_add_prompts(c));
    CAD_TRY(cadp_split_people(c));
    CAD_TRY(cadp_check_people(c));
    CAD_TRY(find_fifths(c));
    CAD_TRY(cadp_score_people(c));
    CAD_TRY(cadp_fit_logistic(c));
    CAD_TRY(find_salt(c));
    salt_rows(c);
    return cadp_write_cohort(c);
}

static void close_cohort(cadp_cohort *c)
{
    for (int64_t i = 0; c->block && i < c->people; i += CADP_BLOCK) cad_free(&c->block[i / CADP_BLOCK]);
    cad_free(&c->block);
    cad_free(&c->person);
    cad_free(&c->hit);
    for (int k = 0; k <= CAD_SCORES; k++) cad_free(&c->risk[k]);
    cad_str_close(&c->findings);
    cad_str_close(&c->notes);
    cadp_ids_close(&c->ids);
    cadp_ids_close(&c->withdrawn);
    cadp_dictionary_close(&c->dictionary);
    cadp_fields_close(&c->fields);
    cadp_phenotype_close(&c->phenotype);
    cadp_censoring_close(&c->censoring);
}

static cad_status check_centres(const cad_cohort_list *list, const char *key)
{
    for (int i = 0; i < list->count; i++)
        if (!*list->word[i] || strspn(list->word[i], "0123456789") != strlen(list->word[i])) return cad_fail(CAD_EUSAGE, "cohort.%s: expected codes of field 54 such as 11004, found \"%.40s\"", key, list->word[i]);
    return CAD_OK;
}

static cad_status check_plan(const cad_cohort_plan *p)
{
    if (!p->extracts.count) return cad_fail(CAD_EUSAGE, "cohort.extracts: expected files, found none");
    if (!p->output_dir) return cad_fail(CAD_EUSAGE, "cohort.output_dir: expected a folder, found none");
    if (p->split == CAD_SPLIT_CENTRE && !p->test_centres.count) return cad_fail(CAD_EUSAGE, "cohort.test_centres: expected codes of centres for split centre, found none");
    if (p->validation + p->test >= 1) return cad_fail(CAD_EUSAGE, "cohort.validation and cohort.test: expected shares that leave something for training");
    if (!p->template_text || !strstr(p->template_text, "{record}")) return cad_fail(CAD_EUSAGE, "cohort.template: expected {record} in it, found none");
    CAD_TRY(check_centres(&p->test_centres, "test_centres"));
    CAD_TRY(check_centres(&p->validation_centres, "validation_centres"));
    return cadp_check_allowed(&p->allow);
}

cad_status cad_prepare_cohort(const cad_cohort_plan *p)
{
    cadp_cohort *c = NULL;
    cad_status st;

    CAD_TRY(check_plan(p));
    CAD_TRY(cad_alloc(&c, 1, sizeof *c, "a cohort"));
    c->plan = p;
    st = prepare(c);
    close_cohort(c);
    cad_free(&c);
    return st;
}
