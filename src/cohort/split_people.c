/* Train, validation, test: families stay together, whether kin or of one text. */
#include "cohort_priv.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct group { int32_t root; uint32_t lot; int64_t people, events; } group;
typedef struct digest { uint64_t prompt; int32_t person; } digest;

/* ---- kin ---- */

static int words(char *line, char **word, int most)
{
    int n = 0;

    for (char *at = line; n < most;) {
        at += strspn(at, " \t\r");
        if (!*at) break;
        word[n++] = at;
        at += strcspn(at, " \t\r");
        if (*at) *at++ = 0;
    }
    return n;
}

static cad_status take_pair(cadp_cohort *c, int32_t *parent, char **word, const int *col, const char *path, int line)
{
    cadp_text a = {word[col[0]], (uint32_t)strlen(word[col[0]]), false}, b = {word[col[1]], (uint32_t)strlen(word[col[1]]), false};
    int64_t x, y;
    char *end;
    double kinship = strtod(word[col[2]], &end);
    int32_t i, j;

    if (!cadp_whole_number(&a, &x) || !cadp_whole_number(&b, &y) || *end) return cad_fail(CAD_EDATA, "%s:%d: expected two ids and a kinship coefficient", path, line);
    if (kinship < c->plan->kinship_threshold) return CAD_OK;
    i = cadp_ids_find(&c->ids, x);
    j = cadp_ids_find(&c->ids, y);
    if (i < 0 || j < 0) return CAD_OK;
    c->kin_pairs++;
    cadp_family_join(parent, i, j);
    return CAD_OK;
}

static cad_status take_lines(cadp_cohort *c, int32_t *parent, char *text, const char *path)
{
    char *word[16], *rest = text;
    int col[3] = {-1, -1, -1}, number = 0;

    for (char *line; *rest;) {
        line = rest;
        rest += strcspn(rest, "\n");
        if (*rest) *rest++ = 0;
        int n = words(line, word, 16);
        if (!number++) {
            for (int i = 0; i < n; i++) {
                if (!strcmp(word[i], "ID1")) col[0] = i;
                if (!strcmp(word[i], "ID2")) col[1] = i;
                if (!strcmp(word[i], "Kinship")) col[2] = i;
            }
            if (col[0] < 0 || col[1] < 0 || col[2] < 0) return cad_fail(CAD_EDATA, "%s:1: expected a header with ID1, ID2 and Kinship", path);
            continue;
        }
        if (!n) continue;
        if (n <= col[0] || n <= col[1] || n <= col[2]) return cad_fail(CAD_EDATA, "%s:%d: expected as many words as in the header, found %d", path, number, n);
        CAD_TRY(take_pair(c, parent, word, col, path, number));
    }
    return CAD_OK;
}

static cad_status join_kin(cadp_cohort *c, int32_t *parent)
{
    char *text = NULL;
    size_t size;

    if (!c->plan->kinship) return CAD_OK;
    CAD_TRY(cad_read_file(&text, &size, c->plan->kinship, 1 << 30, CAD_EDATA));
    cad_status st = take_lines(c, parent, text, c->plan->kinship);
    cad_free(&text);
    return st;
}

/* ---- one text, one side ---- */

static int by_prompt(const void *a, const void *b)
{
    const digest *x = a, *y = b;

    if (x->prompt != y->prompt) return x->prompt < y->prompt ? -1 : 1;
    return (x->person > y->person) - (x->person < y->person);
}

static cad_status digests(const cadp_cohort *c, digest **out, int64_t *count)
{
    *count = 0;
    CAD_TRY(cad_alloc(out, (size_t)c->people, sizeof **out, "digests of records"));
    for (int64_t i = 0; i < c->people; i++)
        if (cadp_is_in(&c->person[i])) (*out)[(*count)++] = (digest){c->person[i].prompt, (int32_t)i};
    qsort(*out, (size_t)*count, sizeof **out, by_prompt);
    return CAD_OK;
}

static cad_status join_prompts(cadp_cohort *c, int32_t *parent)
{
    digest *d = NULL;
    int64_t n;

    CAD_TRY(digests(c, &d, &n));
    for (int64_t i = 1; i < n; i++) {
        if (d[i].prompt != d[i - 1].prompt) continue;
        cadp_family_join(parent, d[i - 1].person, d[i].person);
        c->joined_prompts++;
    }
    cad_free(&d);
    return CAD_OK;
}

/* ---- dealing ---- */

static int by_lot(const void *a, const void *b)
{
    const group *x = a, *y = b;

    if (x->lot != y->lot) return x->lot < y->lot ? -1 : 1;
    return (x->root > y->root) - (x->root < y->root);
}

static bool takes_part(const cadp_cohort *c, int64_t i) { return cadp_is_in(&c->person[i]) && c->person[i].split == CADP_TRAIN; }

/* Families of people still in train, in an order that depends on the seed and the smallest id alone. */
static cad_status gather(cadp_cohort *c, group **out, int64_t *count)
{
    int32_t *place = NULL;
    int64_t *least = NULL, n = 0;
    cad_status st = cad_alloc(&place, (size_t)c->people, sizeof *place, "families");

    if (!st) st = cad_alloc(&least, (size_t)c->people, sizeof *least, "families");
    if (!st) st = cad_alloc(out, (size_t)c->people, sizeof **out, "families");
    for (int64_t i = 0; !st && i < c->people; i++) {
        const cadp_person *p = &c->person[i];
        if (!takes_part(c, i)) continue;
        int32_t *at = &place[p->family];
        if (!*at) {
            (*out)[n] = (group){.root = p->family};
            least[n] = p->eid;
            *at = (int32_t)++n;
        }
        (*out)[*at - 1].people++;
        (*out)[*at - 1].events += p->label;
        least[*at - 1] = cad_min(least[*at - 1], p->eid);
    }
    for (int64_t i = 0; !st && i < n; i++) {
        uint32_t w[4];
        cad_rng_words(c->plan->seed, CAD_RNG_TEST, 101, (uint64_t)least[i], w);
        (*out)[i].lot = w[0];
    }
    cad_free(&place);
    cad_free(&least);
    *count = n;
    return st;
}

/* The first families of a stratum until the test has its share, the next for validation. */
static void deal(const cadp_cohort *c, group *g, int64_t n, int stratum, uint8_t *side)
{
    int64_t all = 0, given = 0;
    double test = c->plan->split == CAD_SPLIT_CENTRE ? 0 : c->plan->test, both = test + c->plan->validation;

    for (int64_t i = 0; i < n; i++) all += !c->plan->stratify || (g[i].events > 0) == stratum ? g[i].people : 0;
    for (int64_t i = 0; i < n; i++) {
        if (c->plan->stratify && (g[i].events > 0) != stratum) continue;
        double at = ((double)given + (double)g[i].people / 2) / (double)all;
        side[g[i].root] = at < test ? CADP_TEST : at < both ? CADP_VALIDATION : CADP_TRAIN;
        given += g[i].people;
    }
}

static cad_status deal_all(cadp_cohort *c)
{
    group *g = NULL;
    uint8_t *side = NULL;
    int64_t n = 0;
    cad_status st = gather(c, &g, &n);

    if (!st) st = cad_alloc(&side, (size_t)c->people, 1, "splits");
    if (!st) {
        qsort(g, (size_t)n, sizeof *g, by_lot);
        deal(c, g, n, 0, side);
        if (c->plan->stratify) deal(c, g, n, 1, side);
        for (int64_t i = 0; i < c->people; i++)
            if (takes_part(c, i)) c->person[i].split = side[c->person[i].family];
    }
    cad_free(&g);
    cad_free(&side);
    return st;
}

static bool is_listed(const cad_cohort_list *list, int centre)
{
    for (int i = 0; i < list->count; i++)
        if (strtol(list->word[i], NULL, 10) == centre) return true;
    return false;
}

/* Centres give test and validation; their relatives elsewhere leave the study, so that no family is on both sides. */
static cad_status split_by_centre(cadp_cohort *c)
{
    uint8_t *side = NULL;

    CAD_TRY(cad_alloc(&side, (size_t)c->people, 1, "splits"));
    for (int64_t i = 0; i < c->people; i++) {
        cadp_person *p = &c->person[i];
        if (!cadp_is_in(p)) continue;
        if (is_listed(&c->plan->test_centres, p->centre)) p->split = CADP_TEST;
        else if (is_listed(&c->plan->validation_centres, p->centre)) p->split = CADP_VALIDATION;
        if (p->split > side[p->family]) side[p->family] = p->split;
    }
    for (int64_t i = 0; i < c->people; i++)
        if (cadp_is_in(&c->person[i]) && c->person[i].split < side[c->person[i].family]) c->person[i].status = CADP_RELATIVE;
    cad_free(&side);
    return c->plan->validation_centres.count ? CAD_OK : deal_all(c);
}

static cad_status check_sides(const cadp_cohort *c)
{
    static const char *const names[] = {"train", "validation", "test"};
    int64_t n[CADP_SPLITS][2] = {{0}};

    for (int64_t i = 0; i < c->people; i++)
        if (cadp_is_in(&c->person[i])) n[c->person[i].split][(int)c->person[i].label]++;
    for (int s = 0; s < CADP_SPLITS; s++) {
        bool wanted = s == CADP_TRAIN || (s == CADP_TEST ? c->plan->test > 0 || c->plan->split == CAD_SPLIT_CENTRE : c->plan->validation > 0);
        if (wanted && (!n[s][0] || !n[s][1])) return cad_fail(CAD_EDATA, "the %s split has people of one label only: expected both; change cohort.split", names[s]);
    }
    return CAD_OK;
}

cad_status cadp_split_people(cadp_cohort *c)
{
    int32_t *parent = NULL;
    cad_status st;

    CAD_TRY(cad_alloc(&parent, (size_t)c->people, sizeof *parent, "families"));
    for (int64_t i = 0; i < c->people; i++) parent[i] = (int32_t)i;
    st = join_kin(c, parent);
    if (!st && c->plan->split == CAD_SPLIT_RANDOM) st = join_prompts(c, parent);
    for (int64_t i = 0; i < c->people; i++) c->person[i].family = cadp_family_of(parent, (int32_t)i);
    cad_free(&parent);
    if (!st) st = c->plan->split == CAD_SPLIT_CENTRE ? split_by_centre(c) : deal_all(c);
    return st ? st : check_sides(c);
}

static cad_status check_twins(cadp_cohort *c)
{
    digest *d = NULL;
    int64_t n, across = 0;

    CAD_TRY(digests(c, &d, &n));
    for (int64_t i = 1; i < n; i++) across += d[i].prompt == d[i - 1].prompt && c->person[d[i].person].split != c->person[d[i - 1].person].split;
    cad_free(&d);
    return cadp_finding(c, "prompts_over_splits", NULL, across, "records have the same text on two sides of the split", true);
}

static cad_status check_families(cadp_cohort *c)
{
    int8_t *side = NULL;
    int64_t across = 0;

    CAD_TRY(cad_alloc(&side, (size_t)c->people, 1, "families"));
    for (int64_t i = 0; i < c->people; i++) {
        const cadp_person *p = &c->person[i];
        if (!cadp_is_in(p)) continue;
        if (!side[p->family]) side[p->family] = (int8_t)(p->split + 1);
        else across += side[p->family] != p->split + 1;
    }
    cad_free(&side);
    return cadp_finding(c, "relatives_over_splits", NULL, across, "people have a relative on another side of the split", true);
}

cad_status cadp_check_sides(cadp_cohort *c)
{
    CAD_TRY(check_families(c));
    CAD_TRY(check_twins(c));
    return cadp_finding(c, "people_over_splits", "eid", 0, "people stand on two sides of the split", true);
}
