/* The options written out: as JSON, as YAML with the source of each value, and back from JSON. */
#include "conf_priv.h"

#include <stdio.h>

static bool printed(const cadp_row *row) { return !(row->marks & CADP_SECOND); }

static int depth_of(const char *section)
{
    int n = *section != 0;
    for (const char *p = section; *p; p++) n += *p == '.';
    return n;
}

/* How many leading parts two sections share. */
static int shared(const char *a, const char *b)
{
    int parts = 0;

    for (size_t i = 0;; i++) {
        if ((!a[i] || a[i] == '.') && (!b[i] || b[i] == '.')) parts += i > 0;
        if (!a[i] || !b[i] || a[i] != b[i]) return parts;
    }
}

/* Part `n` (from 0) of "a.b.c". */
static void part(char *out, size_t room, const char *section, int n)
{
    while (n--) section += strcspn(section, ".") + 1;
    snprintf(out, room, "%.*s", (int)strcspn(section, "."), section);
}

/* The rows in their order, sections opened and closed as they come. */
static cad_status each(const cad_config *c, cad_status (*open)(void *with, const char *name, int depth), cad_status (*shut)(void *with),
                       cad_status (*see)(void *with, const cad_config *c, int row, int depth), void *with)
{
    const char *now = "";
    char name[64];

    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        int keep = shared(now, row->in);
        if (!printed(row)) continue;
        for (int d = depth_of(now); d > keep; d--) CAD_TRY(shut(with));
        for (int d = keep; d < depth_of(row->in); d++) {
            part(name, sizeof name, row->in, d);
            CAD_TRY(open(with, name, d));
        }
        now = row->in;
        CAD_TRY(see(with, c, i, depth_of(now)));
    }
    for (int d = depth_of(now); d > 0; d--) CAD_TRY(shut(with));
    return CAD_OK;
}

/* ---- JSON ---- */

static cad_status open_json(void *with, const char *name, int depth)
{
    (void)depth;
    return cad_json_begin(with, name, '{');
}
static cad_status shut_json(void *with) { return cad_json_end(with); }
static cad_status see_json(void *with, const cad_config *c, int row, int depth)
{
    (void)depth;
    return cadp_conf_emit(with, cadp_conf_rows[row].key, &cadp_conf_rows[row], &c->options);
}

static cad_status hand_over(cad_status st, cad_json *j, cad_str *out)
{
    if (!st) st = cad_str_add(out, j->text.data, j->text.size);
    cad_json_close(j);
    return st;
}

cad_status cad_config_json(const cad_config *c, cad_str *out)
{
    cad_json j = {.pretty = true};
    cad_status st = cad_json_begin(&j, NULL, '{');

    if (!st) st = each(c, open_json, shut_json, see_json, &j);
    if (!st) st = cad_json_end(&j);
    return hand_over(st, &j, out);
}

static void source_of(const cad_config *c, int i, char *out, size_t room)
{
    const cadp_origin *origin = &c->origin[i];
    const char *where = origin->where ? origin->where : "default";

    if (origin->level == CADP_DEFAULT) snprintf(out, room, "default");
    else if (origin->level == CADP_FLAG && !strncmp(where, "--", 2)) snprintf(out, room, "flag %s", where);
    else if (origin->level == CADP_ENVIRONMENT && !strncmp(where, "CADTRAIN_", 9)) snprintf(out, room, "environment %s", where);
    else snprintf(out, room, "%s", where);
}

cad_status cad_config_sources_json(const cad_config *c, cad_str *out)
{
    cad_json j = {.pretty = true};
    cad_status st = cad_json_begin(&j, NULL, '{');
    char name[128], source[640];

    for (int i = 0; i < cadp_conf_row_count && !st; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        if (!printed(row) || row->marks & CADP_HIDDEN) continue;
        snprintf(name, sizeof name, "%s%s%s", row->in, *row->in ? "." : "", row->key);
        source_of(c, i, source, sizeof source);
        st = cad_json_string(&j, name, source);
    }
    if (!st) st = cad_json_end(&j);
    return hand_over(st, &j, out);
}

/* ---- YAML for people ---- */

static cad_status open_yaml(void *with, const char *name, int depth) { return cad_str_addf(with, "%*s%s:\n", 2 * depth, "", name); }
static cad_status shut_yaml(void *with)
{
    (void)with;
    return CAD_OK;
}

/* A JSON value on one line is a YAML value. */
static cad_status see_yaml(void *with, const cad_config *c, int row, int depth)
{
    cad_json j = {0};
    char source[640];
    cad_status st;

    if (cadp_conf_rows[row].marks & CADP_HIDDEN) return CAD_OK;
    source_of(c, row, source, sizeof source);
    st = cad_json_begin(&j, NULL, '[');
    if (!st) st = cadp_conf_emit(&j, NULL, &cadp_conf_rows[row], &c->options);
    if (!st) st = cad_json_end(&j);
    if (!st) { /* without the list around it */
        int used = 2 * depth + (int)strlen(cadp_conf_rows[row].key) + (int)j.text.size;
        st = cad_str_addf(with, "%*s%s: %.*s%*s# %s\n", 2 * depth, "", cadp_conf_rows[row].key, (int)j.text.size - 2, j.text.data + 1,
                          used < 60 ? 62 - used : 2, "", source);
    }
    cad_json_close(&j);
    return st;
}

cad_status cad_config_print(const cad_config *c, cad_str *out)
{
    CAD_TRY(cad_str_addf(out, "# %s\n", c->says.data ? c->says.data : "configuration"));
    return each(c, open_yaml, shut_yaml, see_yaml, out);
}
