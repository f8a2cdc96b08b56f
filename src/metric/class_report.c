#include <cadtrain/metric.h>

#include <inttypes.h>

static cad_status add_row(cad_str *out, const char *name, const cad_class_row *r)
{
    return cad_str_addf(out, "%12s  %9.4f %9.4f %9.4f %9" PRId64 "\n", name, r->precision, r->recall, r->f1, r->support);
}

/* The layout of scikit-learn: names right-aligned to "weighted avg"; a class that neither occurs nor is predicted has no row. */
cad_status cad_metrics_report_text(const cad_metrics *m, cad_str *out)
{
    CAD_TRY(cad_str_addf(out, "%12s  %9s %9s %9s %9s\n\n", "", "precision", "recall", "f1-score", "support"));
    if (m->tn + m->fp + m->fn > 0) CAD_TRY(add_row(out, "0", &m->row[0]));
    if (m->tp + m->fp + m->fn > 0) CAD_TRY(add_row(out, "1", &m->row[1]));
    CAD_TRY(cad_str_addf(out, "\n%12s  %9s %9s %9.4f %9" PRId64 "\n", "accuracy", "", "", m->accuracy, m->n));
    CAD_TRY(add_row(out, "macro avg", &m->macro));
    return add_row(out, "weighted avg", &m->weighted);
}
