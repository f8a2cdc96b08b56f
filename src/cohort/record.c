/* The text of a record taken apart again: which bytes say what field. */
#include "cohort_priv.h"

#include <stdio.h>

struct cad_record_fields { cadp_fields fields; };

cad_status cad_record_fields_open(cad_record_fields **out, const char *path)
{
    cad_status st;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "fields"));
    if ((st = cadp_fields_open(&(*out)->fields, path))) cad_record_fields_close(out);
    return st;
}

void cad_record_fields_close(cad_record_fields **f)
{
    if (!*f) return;
    cadp_fields_close(&(*f)->fields);
    cad_free(f);
}

int cad_record_fields_count(const cad_record_fields *f) { return f->fields.entries; }
const char *cad_record_field_name(const cad_record_fields *f, int field) { return f->fields.entry[field].name; }

static size_t starts_with(const char *t, size_t n, const char *word)
{
    size_t k = word ? strlen(word) : 0;

    return k && k <= n && !memcmp(t, word, k) ? k : 0;
}

static bool is_digit(char x) { return x >= '0' && x <= '9'; }

static size_t number(const char *t, size_t n)
{
    size_t k = n && *t == '-', digits = k;

    while (k < n && is_digit(t[k])) k++;
    if (k == digits) return 0;
    if (k + 1 < n && t[k] == '.' && is_digit(t[k + 1]))
        for (k++; k < n && is_digit(t[k]);) k++;
    return k;
}

/* Bytes of "PREFIX value SUFFIX" at t; 0: it is not there. */
static size_t worded(const cadp_entry *e, const char *t, size_t n)
{
    const char *hole = e->wording ? strstr(e->wording, "{value}") : NULL, *end;
    size_t before = hole ? (size_t)(hole - e->wording) : 0, best = 0, tail;

    if (!hole) return starts_with(t, n, e->wording);
    end = hole + strlen("{value}");
    tail = strlen(end);
    if (before > n || memcmp(t, e->wording, before)) return 0;
    for (int i = -1; i < e->levels; i++) {
        size_t k = i < 0 ? number(t + before, n - before) : starts_with(t + before, n - before, e->level_text[i]);
        if (!k || (i < 0 && e->kind != CADP_NUMBER)) continue;
        if (tail <= n - before - k && !memcmp(t + before + k, end, tail) && before + k + tail > best) best = before + k + tail;
    }
    return best;
}

static size_t longest(const cadp_entry *e, const char *t, size_t n)
{
    size_t k = worded(e, t, n), a = starts_with(t, n, e->yes), b = starts_with(t, n, e->no), c = starts_with(t, n, e->missing);

    if (a > k) k = a;
    if (b > k) k = b;
    return c > k ? c : k;
}

static bool is_space(char x) { return x == ' ' || x == '\n' || x == '\t'; }

int cad_record_split(const cad_record_fields *f, const char *text, size_t n, cad_span *out, int most)
{
    int count = 0;

    for (size_t at = 0; at < n && count < most;) {
        size_t best = 0;
        int field = 0;
        for (int i = 0; i < f->fields.entries && (!at || is_space(text[at - 1])); i++) {
            size_t k = longest(&f->fields.entry[i], text + at, n - at);
            if (k <= best || (at + k < n && !is_space(text[at + k]))) continue;
            best = k;
            field = i;
        }
        if (best) out[count++] = (cad_span){field, at, at + best};
        at += best ? best : 1;
    }
    return count;
}
