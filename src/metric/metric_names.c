#include <cadtrain/metric.h>

static const struct { const char *name; size_t at; bool larger; } known[] = {
    {"loss", offsetof(cad_metrics, loss), false},
    {"accuracy", offsetof(cad_metrics, accuracy), true},
    {"precision", offsetof(cad_metrics, precision), true},
    {"recall", offsetof(cad_metrics, recall), true},
    {"f1", offsetof(cad_metrics, f1), true},
    {"auc", offsetof(cad_metrics, auc), true},
    {"auprc", offsetof(cad_metrics, auprc), true},
    {"brier", offsetof(cad_metrics, brier), false},
    {"log_loss", offsetof(cad_metrics, log_loss), false},
    {"mcc", offsetof(cad_metrics, mcc), true},
    {"balanced_accuracy", offsetof(cad_metrics, balanced_accuracy), true},
    {"specificity", offsetof(cad_metrics, specificity), true},
    {"npv", offsetof(cad_metrics, npv), true},
    {"ece", offsetof(cad_metrics, ece), false},
    {"calibration_slope", offsetof(cad_metrics, calibration_slope), true},
    {"calibration_intercept", offsetof(cad_metrics, calibration_intercept), true},
    {"calibration_in_the_large", offsetof(cad_metrics, calibration_in_the_large), true},
};

static int find(const char *name)
{
    if (!strncmp(name, "eval_", 5)) name += 5;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) return (int)i;
    return -1;
}

bool cad_metrics_by_name(const cad_metrics *m, const char *name, double *out)
{
    int i = find(name);

    if (i < 0) return false;
    memcpy(out, (const char *)m + known[i].at, sizeof *out);
    return true;
}

bool cad_metric_larger_is_better(const char *name)
{
    int i = find(name);

    return i < 0 || known[i].larger;
}
