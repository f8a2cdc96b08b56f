#include <cadtrain/report.h>

#include <math.h>

cad_status cad_report_interval(cad_json *j, const char *key, cad_interval x)
{
    CAD_TRY(cad_json_begin(j, key, '['));
    CAD_TRY(cad_json_real(j, NULL, x.low));
    CAD_TRY(cad_json_real(j, NULL, x.high));
    return cad_json_end(j);
}

static cad_status add_class(cad_json *j, const char *key, const cad_class_row *r)
{
    CAD_TRY(cad_json_begin(j, key, '{'));
    CAD_TRY(cad_json_real(j, "precision", r->precision));
    CAD_TRY(cad_json_real(j, "recall", r->recall));
    CAD_TRY(cad_json_real(j, "f1-score", r->f1));
    CAD_TRY(cad_json_int(j, "support", r->support));
    return cad_json_end(j);
}

static cad_status add_report_text(cad_json *j, const cad_metrics *m)
{
    cad_str text = {0};
    cad_status status = cad_metrics_report_text(m, &text);

    if (!status) status = cad_json_string(j, "classification_report", text.data);
    cad_str_close(&text);
    return status;
}

/* The keys that the Python program writes, in its order. */
static cad_status add_original(cad_json *j, const cad_metrics *m)
{
    CAD_TRY(cad_json_real(j, "accuracy", m->accuracy));
    CAD_TRY(cad_json_real(j, "precision", m->precision));
    CAD_TRY(cad_json_real(j, "recall", m->recall));
    CAD_TRY(cad_json_real(j, "f1", m->f1));
    CAD_TRY(add_report_text(j, m));
    return cad_json_real(j, "auc", m->auc);
}

static cad_status add_scores(cad_json *j, const cad_metrics *m)
{
    CAD_TRY(cad_json_real(j, "auprc", m->auprc));
    CAD_TRY(cad_json_real(j, "brier", m->brier));
    CAD_TRY(cad_json_real(j, "log_loss", m->log_loss));
    CAD_TRY(cad_json_real(j, "mcc", m->mcc));
    CAD_TRY(cad_json_real(j, "balanced_accuracy", m->balanced_accuracy));
    CAD_TRY(cad_json_int(j, "n", m->n));
    CAD_TRY(cad_json_int(j, "positives", m->positives));
    CAD_TRY(cad_json_real(j, "threshold", m->threshold));
    CAD_TRY(cad_report_interval(j, "auc_ci", m->auc_ci));
    CAD_TRY(cad_report_interval(j, "auprc_ci", m->auprc_ci));
    CAD_TRY(cad_report_interval(j, "accuracy_ci", m->accuracy_ci));
    CAD_TRY(cad_report_interval(j, "brier_ci", m->brier_ci));
    CAD_TRY(cad_json_real(j, "specificity", m->specificity));
    CAD_TRY(cad_json_real(j, "npv", m->npv));
    return isnan(m->loss) ? CAD_OK : cad_json_real(j, "loss", m->loss);
}

static cad_status add_counts(cad_json *j, const cad_metrics *m)
{
    CAD_TRY(cad_json_begin(j, "confusion", '{'));
    CAD_TRY(cad_json_int(j, "tn", m->tn));
    CAD_TRY(cad_json_int(j, "fp", m->fp));
    CAD_TRY(cad_json_int(j, "fn", m->fn));
    CAD_TRY(cad_json_int(j, "tp", m->tp));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_begin(j, "classes", '{'));
    CAD_TRY(add_class(j, "0", &m->row[0]));
    CAD_TRY(add_class(j, "1", &m->row[1]));
    CAD_TRY(add_class(j, "macro avg", &m->macro));
    CAD_TRY(add_class(j, "weighted avg", &m->weighted));
    return cad_json_end(j);
}

static cad_status add_calibration(cad_json *j, const cad_metrics *m)
{
    CAD_TRY(cad_json_real(j, "calibration_slope", m->calibration_slope));
    CAD_TRY(cad_json_real(j, "calibration_intercept", m->calibration_intercept));
    CAD_TRY(cad_json_real(j, "calibration_in_the_large", m->calibration_in_the_large));
    CAD_TRY(cad_json_real(j, "ece", m->ece));
    CAD_TRY(cad_json_begin(j, "calibration_bins", '['));
    for (int b = 0; b < CAD_BINS; b++) {
        if (!m->bin[b].n) continue;
        CAD_TRY(cad_json_begin(j, NULL, '{'));
        CAD_TRY(cad_json_real(j, "low", (double)b / CAD_BINS));
        CAD_TRY(cad_json_real(j, "high", (double)(b + 1) / CAD_BINS));
        CAD_TRY(cad_json_int(j, "n", m->bin[b].n));
        CAD_TRY(cad_json_real(j, "mean_probability", m->bin[b].mean));
        CAD_TRY(cad_json_real(j, "observed_rate", m->bin[b].rate));
        CAD_TRY(cad_json_end(j));
    }
    return cad_json_end(j);
}

static cad_status add_all(cad_json *j, const cad_metrics *m)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(add_original(j, m));
    CAD_TRY(add_scores(j, m));
    CAD_TRY(add_counts(j, m));
    CAD_TRY(add_calibration(j, m));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

cad_status cad_write_metrics(const char *path, const cad_metrics *m)
{
    cad_json j = {.pretty = true};
    cad_status status = add_all(&j, m);

    if (!status) status = cad_write_file(path, j.text.data, j.text.size);
    cad_json_close(&j);
    return status;
}
