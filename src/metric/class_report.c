#include <cadtrain/metric.h>

#include <inttypes.h>

/* Without a single right prediction scikit-learn's counts are floats, and so their text is "41.0". */
static cad_status add_count(const cad_metrics *m, cad_str *out, int64_t support)
{
    if (m->tp + m->tn == 0) return cad_str_addf(out, " %9.1f\n", (double)support);
    return cad_str_addf(out, " %9" PRId64 "\n", support);
}

static cad_status add_row(const cad_metrics *m, cad_str *out, const char *name, const cad_class_row *r)
{
    CAD_TRY(cad_str_addf(out, "%12s  %9.4f %9.4f %9.4f", name, r->precision, r->recall, r->f1));
    return add_count(m, out, r->support);
}

/* The layout of scikit-learn: names right-aligned to "weighted avg"; a class that neither occurs nor is predicted has no row. */
cad_status cad_metrics_report_text(const cad_metrics *m, cad_str *out)
{
    CAD_TRY(cad_str_addf(out, "%12s  %9s %9s %9s %9s\n\n", "", "precision", "recall", "f1-score", "support"));
    if (m->tn + m->fp + m->fn > 0) CAD_TRY(add_row(m, out, "0", &m->row[0]));
    if (m->tp + m->fp + m->fn > 0) CAD_TRY(add_row(m, out, "1", &m->row[1]));
    CAD_TRY(cad_str_addf(out, "\n%12s  %9s %9s %9.4f", "accuracy", "", "", m->accuracy));
    CAD_TRY(add_count(m, out, m->n));
    CAD_TRY(add_row(m, out, "macro avg", &m->macro));
    return add_row(m, out, "weighted avg", &m->weighted);
}
