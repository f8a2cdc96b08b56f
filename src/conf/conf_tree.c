/* A tree of a file against the table: every key is known, or named with its nearest. */
#include "conf_priv.h"

#include <stdio.h>

static const char *const tops[] = {"paths", "deepspeed", NULL};

/* The sections one level below `section`: "lora" of "model". Returns NULL when the row is in none. */
static const char *below(const cadp_row *row, const char *section, char *out, size_t room)
{
    size_t n = strlen(section);
    const char *rest = row->in;

    if (n) {
        if (strncmp(row->in, section, n) || row->in[n] != '.') return NULL;
        rest += n + 1;
    }
    if (!*rest) return NULL;
    snprintf(out, room, "%.*s", (int)strcspn(rest, "."), rest);
    return out;
}

static void offer_keys(cad_near *near, const char *section)
{
    char part[64];

    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        if (row->marks & CADP_HIDDEN) continue;
        if (!strcmp(row->in, section)) {
            cad_near_offer(near, row->key);
            if (row->also) cad_near_offer(near, row->also);
        }
        if (below(row, section, part, sizeof part)) cad_near_offer(near, part);
    }
    for (int i = 0; !*section && tops[i]; i++) cad_near_offer(near, tops[i]);
}

cad_status cadp_conf_unknown_key(cad_config *c, const cad_node *child, const char *section, const cadp_from *from)
{
    char place[512];
    cad_near near = {.wanted = child->key};
    const char *home = cadp_conf_home_of(child->key);

    cadp_conf_place(place, sizeof place, from, child, true);
    offer_keys(&near, section);
    if (home && (!near.found || near.cost >= 1000))
        return cadp_conf_mistake(c, "%s: unknown key %s %s%s; it belongs %s%s", place, cadp_conf_quote(child->key).text,
                                 *section ? "in section " : "at the top", section, *home ? "in section " : "at the top", home);
    return cadp_conf_mistake(c, "%s: unknown key %s %s%s%s", place, cadp_conf_quote(child->key).text, *section ? "in section " : "at the top", section,
                             cad_near_hint(&near, ""));
}

static cad_status apply_child(cad_config *c, const cad_node *child, const char *section, const cadp_from *from)
{
    char sub[128];
    int i = cadp_conf_find(section, strlen(section), child->key, strlen(child->key));

    if (i >= 0 && (!(cadp_conf_rows[i].marks & CADP_HIDDEN) || from->inside)) return cadp_conf_set(c, i, child, from);
    snprintf(sub, sizeof sub, "%s%s%.60s", section, *section ? "." : "", child->key);
    if (cadp_conf_is_section(sub, strlen(sub)) && !strpbrk(child->key, "-.")) return cadp_conf_apply_section(c, child, sub, from);
    return cadp_conf_unknown_key(c, child, section, from);
}

cad_status cadp_conf_apply_section(cad_config *c, const cad_node *table, const char *section, const cadp_from *from)
{
    char place[512], found[128];

    if (table->kind == CAD_NULL) return CAD_OK;
    if (table->kind != CAD_TABLE) {
        cadp_conf_place(place, sizeof place, from, table, false);
        cadp_conf_describe(found, sizeof found, table);
        return cadp_conf_mistake(c, "%s: %s: expected a table of options, found %s", place, *section ? section : "configuration", found);
    }
    for (const cad_node *child = table->child; child; child = child->next) CAD_TRY(apply_child(c, child, section, from));
    return CAD_OK;
}

cad_status cadp_conf_apply_root(cad_config *c, const cad_node *root, const cadp_from *from)
{
    if (root->kind != CAD_TABLE) return cadp_conf_apply_section(c, root, "", from);
    for (const cad_node *child = root->child; child; child = child->next) {
        if (!strcmp(child->key, "paths") || !strcmp(child->key, "deepspeed")) continue;
        CAD_TRY(apply_child(c, child, "", from));
    }
    return CAD_OK;
}
