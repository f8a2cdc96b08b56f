/* A person as text: the wording of fields.yaml, one sentence after another. */
#include "cohort_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static double history(const cadp_cohort *c, double slot, int64_t person)
{
    if (isnan(slot)) return 0;
    return slot == CADP_ODD_DAY ? NAN : slot <= c->person[person].index;
}

double cadp_entry_value(const cadp_cohort *c, const cadp_entry *e, int64_t person)
{
    const double *slot = cadp_slots(c, person) + e->slot;
    double found = NAN;

    if (e->kind == CADP_HISTORY) return history(c, *slot, person);
    for (int i = 0; i < e->fields; i++) {
        if (isnan(slot[i])) continue;
        if (e->kind != CADP_ANY) return slot[i];
        if (isnan(found) || slot[i] > found) found = slot[i];
    }
    return found;
}

double cadp_named_value(const cadp_cohort *c, const char *name, int64_t person)
{
    const cadp_entry *e = cadp_fields_find(&c->fields, name);

    return e ? cadp_entry_value(c, e, person) : NAN;
}

static const char *level_text(const cadp_entry *e, double v)
{
    for (int i = 0; i < e->levels; i++)
        if (e->level[i] == v) return e->level_text[i];
    return "";
}

/* Nobody says minus zero. */
static cad_status add_number(const cadp_entry *e, double v, cad_str *out)
{
    char text[64];

    snprintf(text, sizeof text, "%.*f", e->decimals, v);
    return cad_str_addf(out, "%s", text + (*text == '-' && strspn(text + 1, "0.") == strlen(text + 1)));
}

/* The wording with {value} filled in. */
static cad_status add_wording(const cadp_entry *e, double v, cad_str *out)
{
    const char *hole = strstr(e->wording, "{value}");

    if (!hole) return cad_str_addf(out, "%s", e->wording);
    CAD_TRY(cad_str_add(out, e->wording, (size_t)(hole - e->wording)));
    if (e->kind == CADP_NUMBER) CAD_TRY(add_number(e, v, out));
    else CAD_TRY(cad_str_addf(out, "%s", level_text(e, v)));
    return cad_str_addf(out, "%s", hole + strlen("{value}"));
}

static cad_status add_sentence(const cadp_cohort *c, const cadp_entry *e, int64_t person, cad_str *out)
{
    double v = cadp_entry_value(c, e, person);
    bool yes_no = e->kind == CADP_ANY || e->kind == CADP_HISTORY;
    const char *text = isnan(v) ? e->missing : yes_no ? (v > 0 ? e->yes : e->no) : e->wording;

    if (!text || !*text) return CAD_OK;
    if (out->size && out->data[out->size - 1] != ' ') CAD_TRY(cad_str_add(out, " ", 1));
    return isnan(v) || yes_no ? cad_str_addf(out, "%s", text) : add_wording(e, v, out);
}

static cad_status add_record(const cadp_cohort *c, int64_t person, cad_str *out)
{
    for (int i = 0; i < c->fields.entries; i++) CAD_TRY(add_sentence(c, &c->fields.entry[i], person, out));
    return CAD_OK;
}

cad_status cadp_prompt(const cadp_cohort *c, int64_t person, cad_str *out)
{
    const char *t = c->plan->template_text;

    out->size = 0;
    CAD_TRY(cad_str_add(out, "", 0));
    while (*t) {
        if (!strncmp(t, "{record}", 8)) {
            CAD_TRY(add_record(c, person, out));
            t += 8;
        } else if (!strncmp(t, "{years}", 7)) {
            CAD_TRY(cad_str_addf(out, "%g", c->plan->horizon_years));
            t += 7;
        } else CAD_TRY(cad_str_add(out, t++, 1));
    }
    return CAD_OK;
}

static bool is_digit(char x) { return x >= '0' && x <= '9'; }

/* Seven digits or more in a row look like an id. */
static bool has_id(const char *t)
{
    for (; *t; t++) {
        size_t n = strspn(t, "0123456789");
        if (n >= 7) return true;
        if (n) t += n - 1;
    }
    return false;
}

static bool fits(const char *t, const char *form)
{
    for (; *form; t++, form++)
        if (*form == '0' ? !is_digit(*t) : *t != *form) return false;
    return true;
}

static bool has_date(const char *t)
{
    for (; *t; t++)
        if (is_digit(*t) && (fits(t, "0000-00-00") || fits(t, "00/00/0000"))) return true;
    return false;
}

cad_status cadp_add_prompts(cadp_cohort *c)
{
    cad_str text = {0};
    int64_t ids = 0, dates = 0;
    cad_status st = CAD_OK;

    for (int64_t i = 0; i < c->people && !st; i++) {
        if (!cadp_is_in(&c->person[i]) || (st = cadp_prompt(c, i, &text))) continue;
        c->person[i].prompt = XXH3_64bits(text.data, text.size);
        ids += has_id(text.data);
        dates += has_date(text.data);
    }
    cad_str_close(&text);
    if (!st) st = cadp_finding(c, "id_in_prompt", NULL, ids, "records contain seven digits in a row, as a participant's id has", true);
    return st ? st : cadp_finding(c, "date_in_prompt", NULL, dates, "records contain a date", true);
}
