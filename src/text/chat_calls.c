/* Filters, tests and methods that chat templates use. */
#include "chat_priv.h"

#include <stdlib.h>

const cadp_value *cadp_argument(const cadp_arguments *a, int64_t place, const char *name)
{
    if (place < a->count) return &a->at[place];
    return name && a->named ? cadp_many_find(a->named, name, strlen(name)) : NULL;
}

static bool is(const char *name, size_t n, const char *word) { return cadp_says(name, n, word); }

/* Whether `one` stands at text[at]. */
static bool stands(const cadp_value *v, size_t at, const cadp_value *one) { return v->size - at >= one->size && !memcmp(v->text + at, one->text, one->size); }

static size_t find(const cadp_value *v, size_t from, const cadp_value *one)
{
    for (size_t at = from; at + one->size <= v->size; at++)
        if (stands(v, at, one)) return at;
    return SIZE_MAX;
}

bool cadp_contains(const cadp_value *all, const cadp_value *one)
{
    if (all->type == CADP_TEXT) return one->type == CADP_TEXT && find(all, 0, one) != SIZE_MAX;
    if (all->type == CADP_TABLE) return one->type == CADP_TEXT && cadp_many_find(all, one->text, one->size);
    for (int64_t i = 0; all->type == CADP_LIST && i < all->many->count; i++)
        if (cadp_is_equal(&all->many->item[i], one)) return true;
    return false;
}

static cad_status kept(cadp_pool *p, cad_str *s, cad_status status, cadp_value *out)
{
    const char *text;

    if (!status) status = cadp_pool_text(p, s->data, s->size, &text);
    if (!status) *out = cadp_of_text(text, s->size);
    cad_str_close(s);
    return status;
}

/* ---- texts ---- */

static cad_status recase(cadp_pool *p, cadp_value v, const char *name, cadp_case title, cadp_value *out)
{
    cad_str s = {0};
    cadp_case how = *name == 'u' ? CADP_CASE_UPPER : *name == 'l' ? CADP_CASE_LOWER : *name == 'c' ? CADP_CASE_FIRST : title;
    cad_status status = cadp_recase(v.text, v.size, how, &s);

    return kept(p, &s, status, out);
}

static cad_status replaced(cadp_pool *p, cadp_value v, const cadp_arguments *a, cadp_value *out)
{
    const cadp_value *old = cadp_argument(a, 0, "old"), *new = cadp_argument(a, 1, "new"), *most = cadp_argument(a, 2, "count");
    int64_t left = most && most->type == CADP_INT && most->integer >= 0 ? most->integer : INT64_MAX;
    cad_str s = {0};
    cad_status status = CAD_OK;

    if (!old || !new || old->type != CADP_TEXT || new->type != CADP_TEXT || !old->size) return cad_fail(CAD_EMODEL, "chat template: replace: expected two texts");
    for (size_t i = 0; i < v.size && !status;) {
        bool here = left > 0 && stands(&v, i, old);
        status = here ? cad_str_add(&s, new->text, new->size) : cad_str_add(&s, v.text + i, 1);
        i += here ? old->size : 1;
        left -= here;
    }
    return kept(p, &s, status, out);
}

/* At white space where there is no separator. */
static cad_status split(cadp_pool *p, cadp_value v, const cadp_arguments *a, cadp_value *out)
{
    const cadp_value *by = cadp_argument(a, 0, "sep"), *most = cadp_argument(a, 1, "maxsplit");
    int64_t left = most && most->type == CADP_INT && most->integer >= 0 ? most->integer : INT64_MAX;
    bool spaces = !by || by->type != CADP_TEXT;

    CAD_TRY(cadp_many_new(p, CADP_LIST, out));
    if (!spaces && !by->size) return cad_fail(CAD_EMODEL, "chat template: split: expected a separator, found an empty text");
    for (;; left--) {
        size_t end = 0;
        if (spaces) cadp_strip(&v, NULL, true, left == 0);
        if (spaces && !v.size) return CAD_OK;
        if (spaces)
            while (end < v.size && !memchr(" \t\n\r\v\f", v.text[end], 6)) end++;
        else end = find(&v, 0, by);
        if (left <= 0 || end == SIZE_MAX || end >= v.size) return cadp_many_add(p, out->many, v);
        CAD_TRY(cadp_many_add(p, out->many, cadp_of_text(v.text, end)));
        end += spaces ? 0 : by->size;
        v.text += end;
        v.size -= end;
        if (!spaces && !v.size) return cadp_many_add(p, out->many, v);
    }
}

static cad_status joined(cadp_pool *p, const cadp_value *all, cadp_value between, const cadp_value *attribute, cadp_value *out)
{
    cad_str s = {0};
    cad_status status = CAD_OK;

    for (int64_t i = 0; all->type == CADP_LIST && i < all->many->count && !status; i++) {
        const cadp_value *v = &all->many->item[i];
        if (attribute && attribute->type == CADP_TEXT) v = cadp_many_find(v, attribute->text, attribute->size);
        if (i) status = cad_str_add(&s, between.text, between.size);
        if (!status && v) status = cadp_write_value(v, false, &s);
    }
    return kept(p, &s, status, out);
}

static bool begins_or_ends(const cadp_value *v, const cadp_value *with, bool ends)
{
    if (with && with->type == CADP_LIST) {
        for (int64_t i = 0; i < with->many->count; i++)
            if (begins_or_ends(v, &with->many->item[i], ends)) return true;
        return false;
    }
    return with && with->type == CADP_TEXT && v->size >= with->size && stands(v, ends ? v->size - with->size : 0, with);
}

static const char *const text_methods[] = {"strip", "lstrip", "rstrip", "startswith", "endswith", "split", "replace", "upper", "lower", "title", "capitalize", "join", "find", NULL};
static const char *const table_methods[] = {"items", "keys", "values", "get", NULL};

bool cadp_has_method(const cadp_value *v, const char *name, size_t n)
{
    const char *const *all = v->type == CADP_TEXT ? text_methods : v->type == CADP_TABLE ? table_methods : NULL;

    for (; all && *all; all++)
        if (is(name, n, *all)) return true;
    return false;
}

static cad_status text_method(cadp_pool *p, const char *name, size_t n, cadp_value v, const cadp_arguments *a, cadp_value *out)
{
    const cadp_value *first = cadp_argument(a, 0, NULL);

    *out = v;
    if (is(name, n, "strip") || is(name, n, "lstrip") || is(name, n, "rstrip")) {
        cadp_strip(out, first, *name != 'r', *name != 'l');
        return CAD_OK;
    }
    if (is(name, n, "startswith") || is(name, n, "endswith")) {
        *out = cadp_of_bool(begins_or_ends(&v, first, *name == 'e'));
        return CAD_OK;
    }
    if (is(name, n, "split")) return split(p, v, a, out);
    if (is(name, n, "replace")) return replaced(p, v, a, out);
    if (is(name, n, "join")) return first ? joined(p, first, v, NULL, out) : cad_fail(CAD_EMODEL, "chat template: join: expected a list");
    if (is(name, n, "find")) {
        size_t at = first && first->type == CADP_TEXT ? find(&v, 0, first) : SIZE_MAX;
        cadp_value before = cadp_of_text(v.text, at);
        *out = cadp_of_int(at == SIZE_MAX ? -1 : cadp_length(&before));
        return CAD_OK;
    }
    return recase(p, v, name, CADP_CASE_WORDS, out);
}

/* what: 0 both as pairs, 1 keys, 2 values */
static cad_status parts(cadp_pool *p, cadp_value v, int what, cadp_value *out)
{
    CAD_TRY(cadp_many_new(p, CADP_LIST, out));
    for (int64_t i = 0; i < v.many->count; i += 2) {
        cadp_value pair;
        CAD_TRY(cadp_many_new(p, CADP_LIST, &pair));
        CAD_TRY(cadp_many_add(p, pair.many, v.many->item[i]));
        CAD_TRY(cadp_many_add(p, pair.many, v.many->item[i + 1]));
        CAD_TRY(cadp_many_add(p, out->many, what ? v.many->item[i + what - 1] : pair));
    }
    return CAD_OK;
}

cad_status cadp_chat_method(cadp_pool *p, const char *name, size_t n, cadp_value v, const cadp_arguments *a, cadp_value *out, bool *known)
{
    const cadp_value *key = cadp_argument(a, 0, NULL), *otherwise = cadp_argument(a, 1, NULL), *at;

    *known = cadp_has_method(&v, name, n);
    if (!*known) return CAD_OK;
    if (v.type == CADP_TEXT) return text_method(p, name, n, v, a, out);
    if (!is(name, n, "get")) return parts(p, v, *name == 'i' ? 0 : *name == 'k' ? 1 : 2, out);
    at = key && key->type == CADP_TEXT ? cadp_many_find(&v, key->text, key->size) : NULL;
    *out = at ? *at : otherwise ? *otherwise : (cadp_value){.type = CADP_NONE};
    return CAD_OK;
}

/* ---- tests ---- */

bool cadp_chat_test(const char *name, size_t n, const cadp_value *v, const cadp_arguments *a, bool *known)
{
    static const struct { const char *name; uint32_t types; } kinds[] = {
        {"undefined", 1u << CADP_UNDEFINED}, {"defined", ~(1u << CADP_UNDEFINED)}, {"none", 1u << CADP_NONE}, {"string", 1u << CADP_TEXT}, {"mapping", 1u << CADP_TABLE}, {"boolean", 1u << CADP_BOOL},
        {"integer", 1u << CADP_INT}, {"float", 1u << CADP_REAL}, {"number", 1u << CADP_INT | 1u << CADP_REAL | 1u << CADP_BOOL}, {"iterable", 1u << CADP_TEXT | 1u << CADP_LIST | 1u << CADP_TABLE | 1u << CADP_UNDEFINED},
        {"sequence", 1u << CADP_TEXT | 1u << CADP_LIST | 1u << CADP_TABLE | 1u << CADP_UNDEFINED}, {"callable", 1u << CADP_MACRO | 1u << CADP_FUNCTION}};
    const cadp_value *to = cadp_argument(a, 0, NULL);

    *known = true;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (is(name, n, kinds[i].name)) return kinds[i].types >> v->type & 1;
    if (is(name, n, "true") || is(name, n, "false")) return v->type == CADP_BOOL && v->truth == (*name == 't');
    if (is(name, n, "odd") || is(name, n, "even")) return v->type == CADP_INT && (v->integer % 2 != 0) == (*name == 'o');
    if (to && (is(name, n, "equalto") || is(name, n, "eq") || is(name, n, "sameas"))) return cadp_is_equal(v, to);
    if (to && is(name, n, "ne")) return !cadp_is_equal(v, to);
    if (to && is(name, n, "in")) return cadp_contains(to, v);
    *known = false;
    return false;
}

/* ---- filters ---- */

/* Behind the first ones. */
static cadp_arguments behind(const cadp_arguments *a, int64_t first, const cadp_value *named)
{
    return a->count > first ? (cadp_arguments){a->at + first, a->count - first, named} : (cadp_arguments){.named = named};
}

/* select, reject, selectattr, rejectattr: what of a list passes a test (none: is true). */
static cad_status chosen(cadp_pool *p, cadp_value v, const cadp_arguments *a, bool attribute, bool wanted, cadp_value *out)
{
    const cadp_value *name = attribute ? cadp_argument(a, 0, NULL) : NULL, *test = cadp_argument(a, attribute, NULL);
    cadp_arguments rest = behind(a, attribute + 1, NULL);

    CAD_TRY(cadp_many_new(p, CADP_LIST, out));
    if ((attribute && (!name || name->type != CADP_TEXT)) || (test && test->type != CADP_TEXT)) return cad_fail(CAD_EMODEL, "chat template: select: expected names");
    for (int64_t i = 0; v.type == CADP_LIST && i < v.many->count; i++) {
        const cadp_value none = {0}, *one = &v.many->item[i], *at = name ? cadp_many_find(one, name->text, name->size) : one;
        bool known = true, is_so = test ? cadp_chat_test(test->text, test->size, at ? at : &none, &rest, &known) : cadp_is_true(at ? at : &none);
        if (!known) return cad_fail(CAD_EMODEL, "chat template: select: expected a test that this program knows");
        if (is_so == wanted) CAD_TRY(cadp_many_add(p, out->many, *one));
    }
    return CAD_OK;
}

static cad_status mapped(cadp_pool *p, cadp_value v, const cadp_arguments *a, cadp_value *out)
{
    const cadp_value *attribute = cadp_argument(a, 9, "attribute"), *filter = cadp_argument(a, 0, NULL);
    cadp_arguments rest = behind(a, 1, a->named);

    CAD_TRY(cadp_many_new(p, CADP_LIST, out));
    for (int64_t i = 0; v.type == CADP_LIST && i < v.many->count; i++) {
        cadp_value one = {0}, *at = attribute && attribute->type == CADP_TEXT ? cadp_many_find(&v.many->item[i], attribute->text, attribute->size) : NULL;
        bool known = attribute != NULL;
        if (at) one = *at;
        if (!attribute && filter && filter->type == CADP_TEXT) CAD_TRY(cadp_chat_filter(p, filter->text, filter->size, v.many->item[i], &rest, &one, &known));
        if (!known) return cad_fail(CAD_EMODEL, "chat template: map: expected an attribute or a filter that this program knows");
        CAD_TRY(cadp_many_add(p, out->many, one));
    }
    return CAD_OK;
}

static cad_status listed(cadp_pool *p, cadp_value v, bool turned, cadp_value *out)
{
    int64_t n = cadp_length(&v);

    CAD_TRY(cadp_many_new(p, CADP_LIST, out));
    for (int64_t i = 0; i < n; i++) {
        int64_t at = turned ? n - 1 - i : i;
        cadp_value one = v.type == CADP_TEXT ? (cadp_value){0} : v.many->item[v.type == CADP_TABLE ? 2 * at : at];
        if (v.type == CADP_TEXT) cadp_characters(&v, at, at + 1, &one);
        CAD_TRY(cadp_many_add(p, out->many, one));
    }
    return CAD_OK;
}

static cad_status as_text(cadp_pool *p, cadp_value v, const cadp_arguments *a, bool json, cadp_value *out)
{
    const cadp_value *indent = cadp_argument(a, 0, "indent");
    cad_str s = {0};
    cad_status status = json ? cadp_write_json(&v, indent && indent->type == CADP_INT ? indent->integer : -1, 0, &s) : cadp_write_value(&v, false, &s);

    return kept(p, &s, status, out);
}

static cad_status end_of_list(cadp_pool *p, cadp_value v, bool last, cadp_value *out)
{
    cadp_value all;

    CAD_TRY(listed(p, v, false, &all));
    *out = all.many->count ? all.many->item[last ? all.many->count - 1 : 0] : (cadp_value){0};
    return CAD_OK;
}

static cad_status whole(cadp_value v, cadp_value *out)
{
    *out = cadp_of_int(v.type == CADP_INT ? v.integer : v.type == CADP_BOOL ? v.truth : v.type == CADP_REAL ? (int64_t)v.real : v.type == CADP_TEXT ? atoll(v.text) : 0);
    return CAD_OK;
}

static cad_status text_filter(cadp_pool *p, const char *name, size_t n, cadp_value v, const cadp_arguments *a, cadp_value *out, bool *known)
{
    CAD_TRY(as_text(p, v, &(cadp_arguments){0}, false, &v));
    *out = v;
    if (is(name, n, "trim")) cadp_strip(out, cadp_argument(a, 0, "chars"), true, true);
    else if (is(name, n, "string") || is(name, n, "safe")) return CAD_OK;
    else if (is(name, n, "upper") || is(name, n, "lower") || is(name, n, "title") || is(name, n, "capitalize")) return recase(p, v, name, CADP_CASE_TITLE, out);
    else if (is(name, n, "replace")) return replaced(p, v, a, out);
    else *known = false;
    return CAD_OK;
}

cad_status cadp_chat_filter(cadp_pool *p, const char *name, size_t n, cadp_value v, const cadp_arguments *a, cadp_value *out, bool *known)
{
    const cadp_value *first = cadp_argument(a, 0, NULL), *also = cadp_argument(a, 1, "boolean");

    *known = true;
    *out = v;
    if (is(name, n, "length") || is(name, n, "count")) {
        *out = cadp_of_int(cadp_length(&v));
        return out->integer < 0 ? cad_fail(CAD_EMODEL, "chat template: length: expected a text, a list or a table") : CAD_OK;
    }
    if (is(name, n, "default") || is(name, n, "d")) {
        if (v.type == CADP_UNDEFINED || (also && cadp_is_true(also) && !cadp_is_true(&v))) *out = first ? *first : cadp_of_text("", 0);
        return CAD_OK;
    }
    if (is(name, n, "tojson")) return as_text(p, v, a, true, out);
    if (is(name, n, "join")) return joined(p, &v, first && first->type == CADP_TEXT ? *first : cadp_of_text("", 0), cadp_argument(a, 1, "attribute"), out);
    if (is(name, n, "list") || is(name, n, "reverse")) return listed(p, v, *name == 'r', out);
    if (is(name, n, "first") || is(name, n, "last")) return end_of_list(p, v, *name == 'l', out);
    if (is(name, n, "items")) return v.type == CADP_TABLE ? parts(p, v, 0, out) : cadp_many_new(p, CADP_LIST, out);
    if (is(name, n, "select") || is(name, n, "reject")) return chosen(p, v, a, false, *name == 's', out);
    if (is(name, n, "selectattr") || is(name, n, "rejectattr")) return chosen(p, v, a, true, *name == 's', out);
    if (is(name, n, "map")) return mapped(p, v, a, out);
    if (is(name, n, "int")) return whole(v, out);
    return text_filter(p, name, n, v, a, out, known);
}
