#include "make.h"

#include <stdlib.h>

enum { LONGEST_PIECE = 1024 }; /* every cut is looked up whole */
typedef struct pair { int32_t left, right, whole, left_points, right_points; float score; int64_t place; } pair;
typedef struct pairs { pair *at; int64_t count, room; } pairs;

static cad_status add_pair(pairs *p, pair one)
{
    if (p->count == p->room) {
        int64_t room = p->room ? 2 * p->room : 1024;
        CAD_TRY(cad_grow(&p->at, (size_t)room, sizeof *p->at, "merges"));
        p->room = room;
    }
    p->at[p->count++] = one;
    return CAD_OK;
}

static int compare(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int by_halves(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    int first = compare(x->left, y->left);

    return first ? first : compare(x->right, y->right);
}

/* Every cut of one piece into two pieces, those of smaller ids first. */
static cad_status cut_piece(const cadp_lexicon *l, int32_t whole, pairs *out)
{
    const cadp_lexeme *p = &l->item[whole];
    int64_t left, right, first = out->count;
    int32_t points = 0, seen = 0;

    if (p->size > LONGEST_PIECE) return cad_fail(CAD_EMODEL, "%s: expected tokens of at most %d bytes, found %zu in token %d", l->path, LONGEST_PIECE, p->size, whole);
    for (size_t i = 0; i < p->size; i++) points += ((unsigned char)p->text[i] & 0xC0) != 0x80;
    for (size_t i = 1; i < p->size; i++) {
        if (((unsigned char)p->text[i] & 0xC0) == 0x80) continue;
        seen++;
        if (!cad_map_get(l->ids, p->text, i, &left) || !cad_map_get(l->ids, p->text + i, p->size - i, &right)) continue;
        CAD_TRY(add_pair(out, (pair){(int32_t)left, (int32_t)right, whole, seen, points - seen, p->score, 0}));
    }
    if (out->count - first > 1) qsort(out->at + first, (size_t)(out->count - first), sizeof *out->at, by_halves);
    for (int64_t i = first; i < out->count; i++) out->at[i].place = i;
    return CAD_OK;
}

static int long_first(const pair *x, const pair *y)
{
    int left = compare(y->left_points, x->left_points), right = compare(y->right_points, x->right_points);

    return left ? left : right ? right : compare(x->place, y->place);
}

static int by_score(const void *a, const void *b)
{
    const pair *x = a, *y = b;

    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return long_first(x, y);
}

static int by_place(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    int left = compare(x->left_points, y->left_points);

    return x->whole != y->whole ? compare(x->whole, y->whole) : left ? left : compare(x->place, y->place);
}

/* "a b" while neither half has a space, else ["a", "b"]: half the memory when it is read. */
static cad_status write_pair(const cadp_lexicon *l, const pair *p, bool comma, cad_str *out)
{
    const cadp_lexeme *a = &l->item[p->left], *b = &l->item[p->right];
    cad_str both = {0};
    cad_status status;

    CAD_TRY(cad_str_addf(out, comma ? ",\n" : "\n"));
    if (memchr(a->text, ' ', a->size) || memchr(b->text, ' ', b->size)) {
        CAD_TRY(cad_str_addf(out, "["));
        CAD_TRY(cadp_make_quoted(out, a->text, a->size));
        CAD_TRY(cad_str_addf(out, ", "));
        CAD_TRY(cadp_make_quoted(out, b->text, b->size));
        return cad_str_addf(out, "]");
    }
    if (!(status = cad_str_add(&both, a->text, a->size)) && !(status = cad_str_add(&both, " ", 1)) && !(status = cad_str_add(&both, b->text, b->size)))
        status = cadp_make_quoted(out, both.data, both.size);
    cad_str_close(&both);
    return status;
}

cad_status cadp_make_merges(const cadp_lexicon *l, cadp_merge_order order, cad_str *out)
{
    static int (*const orders[])(const void *, const void *) = {by_score, by_place};
    pairs all = {0};
    cad_status status = CAD_OK;

    for (int64_t i = 0; i < l->count && !status; i++)
        if (!l->item[i].twice) status = cut_piece(l, (int32_t)i, &all);
    if (!status && all.count) qsort(all.at, (size_t)all.count, sizeof *all.at, orders[order]);
    for (int64_t i = 0; i < all.count && !status; i++) status = write_pair(l, &all.at[i], i > 0, out);
    cad_free(&all.at);
    return status;
}
