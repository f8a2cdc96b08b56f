/* Who was left out why: as lines, as JSON, as a picture. */
#include "cohort_priv.h"

#include <stdio.h>

enum { STEPS = CADP_STATUSES + 1 };
typedef struct flow { int64_t read, withdrawn, out[CADP_STATUSES], in, events, died; int64_t split[CADP_SPLITS][2]; } flow;

static const char *const reasons[CADP_STATUSES] = {
    NULL, "no date of assessment", "consent to linkage withdrawn", "an event whose date is not known", "event before the assessment", "centre not known",
    "follow-up ends before the horizon", "relative of somebody in a test centre"};

static flow count(const cadp_cohort *c)
{
    flow f = {.read = c->people};

    for (int64_t i = 0; i < c->people; i++) {
        const cadp_person *p = &c->person[i];
        if (!cadp_is_in(p)) {
            f.out[p->status]++;
            continue;
        }
        f.in++;
        f.events += p->label;
        f.died += (p->flags & CADP_DIED_FIRST) != 0;
        f.split[p->split][(int)p->label]++;
    }
    return f;
}

static void tell(char out[32], int64_t n)
{
    char plain[32];
    int size = snprintf(plain, sizeof plain, "%lld", (long long)n), k = 0;

    if (n > 0 && n < CADP_FEWEST) {
        snprintf(out, 32, "<5");
        return;
    }
    for (int i = 0; i < size; i++) {
        if (i && (size - i) % 3 == 0) out[k++] = ',';
        out[k++] = plain[i];
    }
    out[k] = 0;
}

static cad_status put(cad_json *j, const char *key, int64_t n)
{
    return n > 0 && n < CADP_FEWEST ? cad_json_string(j, key, "<5") : cad_json_int(j, key, n);
}

/* A small count would follow from the sums: where there is one, larger ones are rounded to tens. */
static int64_t shown(const flow *f, int64_t n)
{
    int small = 0;

    for (int s = 0; s < CADP_SPLITS; s++) small += f->split[s][1] > 0 && f->split[s][1] < CADP_FEWEST;
    for (int s = 1; s < CADP_STATUSES; s++) small += f->out[s] > 0 && f->out[s] < CADP_FEWEST;
    return small > 0 && n >= CADP_FEWEST ? (n + 5) / 10 * 10 : n;
}

static cad_status put_flow(const cadp_cohort *c, const flow *f, cad_json *j)
{
    static const char *const names[CADP_SPLITS] = {"train", "validation", "test"};

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(put(j, "people", shown(f, f->read)));
    CAD_TRY(cad_json_begin(j, "excluded", '['));
    for (int s = 1; s < CADP_STATUSES; s++) {
        CAD_TRY(cad_json_begin(j, NULL, '{'));
        CAD_TRY(cad_json_string(j, "reason", reasons[s]));
        CAD_TRY(put(j, "people", f->out[s]));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_end(j));
    CAD_TRY(put(j, "included", shown(f, f->in)));
    CAD_TRY(put(j, "events", shown(f, f->events)));
    CAD_TRY(put(j, "died_of_something_else", f->died));
    CAD_TRY(cad_json_real(j, "horizon_years", c->plan->horizon_years));
    for (int s = 0; s < CADP_SPLITS; s++) {
        CAD_TRY(cad_json_begin(j, names[s], '{'));
        CAD_TRY(put(j, "people", shown(f, f->split[s][0] + f->split[s][1])));
        CAD_TRY(put(j, "events", shown(f, f->split[s][1])));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

/* ---- the picture ---- */

enum { WIDTH = 640, BOX = 250, HIGH = 44, STEP = 58 };

static cad_status box(cad_str *s, int x, int y, int w, const char *what, int64_t n)
{
    char number[32];

    tell(number, n);
    CAD_TRY(cad_str_addf(s, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\".55\"/>\n", x, y, w, HIGH));
    return cad_str_addf(s, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\"><tspan>%s</tspan><tspan x=\"%d\" dy=\"16\" font-weight=\"600\">%s</tspan></text>\n", x + w / 2, y + 19, what,
                        x + w / 2, number[0] == '<' ? "&lt;5" : number);
}

static cad_status line(cad_str *s, int x1, int y1, int x2, int y2)
{
    return cad_str_addf(s, "<path d=\"M%d %dL%d %d\" stroke=\"currentColor\" stroke-opacity=\".55\" fill=\"none\"/>\n", x1, y1, x2, y2);
}

static cad_status draw_steps(const flow *f, cad_str *s, int *y)
{
    int middle = 20 + BOX / 2;

    CAD_TRY(box(s, 20, *y, BOX, "People in the extracts", shown(f, f->read)));
    *y += HIGH;
    for (int k = 1; k < CADP_STATUSES; k++) {
        if (!f->out[k]) continue;
        CAD_TRY(line(s, middle, *y, middle, *y + STEP));
        CAD_TRY(line(s, middle, *y + STEP / 2, 330, *y + STEP / 2));
        CAD_TRY(box(s, 330, *y + STEP / 2 - HIGH / 2, 290, reasons[k], f->out[k]));
        *y += STEP;
    }
    CAD_TRY(line(s, middle, *y, middle, *y + 16));
    *y += 16;
    CAD_TRY(box(s, 20, *y, BOX, "In the study", shown(f, f->in)));
    *y += HIGH;
    return CAD_OK;
}

static cad_status draw_splits(const flow *f, cad_str *s, int y)
{
    static const char *const names[CADP_SPLITS] = {"Training", "Validation", "Test"};
    int middle = 20 + BOX / 2;

    CAD_TRY(line(s, middle, y, middle, y + 14));
    CAD_TRY(line(s, 115, y + 14, 525, y + 14));
    for (int k = 0; k < CADP_SPLITS; k++) {
        char what[64], events[32];
        int x = 20 + k * 205;
        tell(events, shown(f, f->split[k][1]));
        snprintf(what, sizeof what, "%s (%s events)", names[k], events[0] == '<' ? "&lt;5" : events);
        CAD_TRY(line(s, x + 95, y + 14, x + 95, y + 28));
        CAD_TRY(box(s, x, y + 28, 190, what, shown(f, f->split[k][0] + f->split[k][1])));
    }
    return CAD_OK;
}

static cad_status draw(const flow *f, cad_str *out)
{
    cad_str body = {0};
    int y = 10;
    cad_status st = draw_steps(f, &body, &y);

    if (!st) st = draw_splits(f, &body, y);
    if (!st) st = cad_str_addf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" font-family=\"system-ui,sans-serif\" font-size=\"13\" fill=\"currentColor\">\n"
                                    "<title>Flow of people into the study</title>\n", WIDTH, y + 28 + HIGH + 10);
    if (!st) st = cad_str_add(out, body.data, body.size);
    if (!st) st = cad_str_addf(out, "</svg>\n");
    cad_str_close(&body);
    return st;
}

static cad_status write_text(const char *dir, const char *name, const char *text, size_t n)
{
    char *path = NULL;
    cad_status st;

    CAD_TRY(cad_path_join(&path, dir, name));
    st = cad_write_file(path, text, n);
    cad_free(&path);
    return st;
}

static void say(const flow *f)
{
    char n[32], m[32];

    tell(n, f->read);
    cad_info("people %s", n);
    for (int s = 1; s < CADP_STATUSES; s++) {
        tell(n, f->out[s]);
        if (f->out[s]) cad_info("  out: %s %s", n, reasons[s]);
    }
    tell(n, f->in);
    tell(m, f->events);
    cad_info("in the study %s, events %s", n, m);
}

cad_status cadp_write_flow(const cadp_cohort *c, const char *dir)
{
    flow f = count(c);
    cad_json j = {.pretty = true};
    cad_str picture = {0};
    cad_status st = put_flow(c, &f, &j);

    say(&f);
    if (!st) st = draw(&f, &picture);
    if (!st) st = write_text(dir, "flow.json", j.text.data, j.text.size);
    if (!st) st = write_text(dir, "flow.svg", picture.data, picture.size);
    cad_json_close(&j);
    cad_str_close(&picture);
    return st;
}
