/* One parser for the column names of all dialects. */
#include "cohort_priv.h"

static bool take(const char **p, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(*p, word, n)) return false;
    *p += n;
    return true;
}

static bool number(const char **p, int *out)
{
    const char *from = *p;
    int v = 0;

    for (; **p >= '0' && **p <= '9' && *p - from < 8; (*p)++) v = v * 10 + (**p - '0');
    *out = v;
    return *p > from;
}

static bool triple(const char *p, const char *a, const char *b, cadp_place *out)
{
    return number(&p, &out->field) && take(&p, a) && number(&p, &out->instance) && take(&p, b) && number(&p, &out->array) && !*p;
}

/* p31, p53_i0, p4080_i0_a1, participant.p31 */
static bool rap(const char *p, cadp_place *out)
{
    const char *dot = strrchr(p, '.');

    if (dot) p = dot + 1;
    if (!take(&p, "p") || !number(&p, &out->field)) return false;
    if (take(&p, "_i") && !number(&p, &out->instance)) return false;
    if (take(&p, "_a") && !number(&p, &out->array)) return false;
    return !*p;
}

static bool stata(const char *p, cadp_place *out)
{
    return (take(&p, "ts_") || take(&p, "n_") || take(&p, "s_")) && triple(p, "_", "_", out);
}

/* sex_f31_0_0: R users' saved csv. */
static bool renamed(const char *name, cadp_place *out)
{
    for (const char *p = strstr(name, "_f"); p; p = strstr(p + 1, "_f"))
        if (triple(p + 2, "_", "_", out)) return true;
    return false;
}

/* "Standing height | Instance 0 | Array 1" */
static bool titled(const cadp_dictionary *d, const char *name, cadp_place *out)
{
    const char *bar = strstr(name, " | ");
    size_t n = bar ? (size_t)(bar - name) : strlen(name);
    char key[256];
    int64_t field;

    if (n >= sizeof key) return false;
    for (size_t i = 0; i < n; i++) key[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 32 : name[i]);
    if (!cad_map_get(d->titles, key, n, &field)) return false;
    out->field = (int)field;
    if (bar && take(&bar, " | Instance ") && !number(&bar, &out->instance)) return false;
    if (bar && take(&bar, " | Array ") && !number(&bar, &out->array)) return false;
    return !bar || !*bar;
}

static bool is_eid(const char *name)
{
    static const char *const spellings[] = {"eid", "EID", "Eid", "f.eid", "n_eid", "participant.eid", "Participant ID", "participant_id"};
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (!strcmp(name, spellings[i])) return true;
    return dot && !strcmp(dot + 1, "eid");
}

cadp_place cadp_column_place(const cadp_dictionary *d, const char *name)
{
    static const cadp_place none = {CADP_NO_FIELD, 0, 0};
    cadp_place p = none;
    const char *r = name;

    if (is_eid(name)) return (cadp_place){CADP_EID, 0, 0};
    if (triple(name, "-", ".", &p)) return p;
    p = none;
    if (take(&r, "f.") && triple(r, ".", ".", &p)) return p;
    p = none;
    if (stata(name, &p)) return p;
    p = none;
    if (rap(name, &p)) return p;
    p = none;
    if (renamed(name, &p)) return p;
    p = none;
    if (titled(d, name, &p)) return p;
    return none;
}

static void trim(cadp_text *t)
{
    while (t->size && (*t->at == ' ' || *t->at == '"' || *t->at == '\'')) t->at++, t->size--;
    while (t->size && (t->at[t->size - 1] == ' ' || t->at[t->size - 1] == '"' || t->at[t->size - 1] == '\'')) t->size--;
}

/* To the next comma outside quotes. */
static size_t to_comma(const cadp_text *cell, size_t at)
{
    bool quoted = false;

    for (; at < cell->size && (quoted || (cell->at[at] != ',' && cell->at[at] != ']')); at++)
        if (cell->at[at] == '"') quoted = !quoted;
    return at;
}

bool cadp_list_next(const cadp_text *cell, size_t *at, cadp_text *item)
{
    size_t from = *at, end;
    bool json = cell->size && cell->at[0] == '[';
    const char *bar;

    if (from >= cell->size) return false;
    if (json) {
        if (!from) from = 1;
        end = to_comma(cell, from);
    } else {
        bar = memchr(cell->at + from, '|', cell->size - from);
        end = bar ? (size_t)(bar - cell->at) : cell->size;
    }
    *item = (cadp_text){cell->at + from, (uint32_t)(end - from), false};
    *at = end + 1;
    trim(item);
    if (json && end < cell->size && cell->at[end] == ']') *at = cell->size;
    return true;
}
