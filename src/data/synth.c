#include "data_priv.h"

#include <math.h>

/* Nobody's records: every number is a function of (seed, person). The risk is logistic in what the text says, so that the best
 * reachable AUC is that of the true risk, about 0.85 at a prevalence of about a quarter. A line that is left out adds nothing. Words are
 * few and short, so that a small model that reads bytes learns them in a minute. */

enum { SEX, AGE, SMOKING, FAMILY, DIABETES, PAIN, PRESSURE, LDL, BMI, ALCOHOL, DRUGS, OUTCOME, SITES };
typedef struct person { uint64_t seed, number; double logit; cad_str *text; } person;

static double lot(const person *p, uint32_t site) { return cad_rng_uniform(p->seed, CAD_RNG_SYNTH, site, p->number); }

/* Independent of lot(site): whether the line is written at all. */
static bool told(const person *p, uint32_t site, double share) { return lot(p, site + SITES) < share; }

/* A normal value, rounded as the text shows it, so that the risk depends on nothing that is not written. */
static double measured(const person *p, uint32_t site, double mean, double sd, double low, double high, double grain)
{
    double v = mean + sd * cad_rng_normal(p->seed, CAD_RNG_SYNTH, site, p->number);
    return round(fmin(fmax(v, low), high) / grain) * grain;
}

static cad_status tell_yes_no(person *p, uint32_t site, const char *name, double told_share, double yes_share, double weight)
{
    bool yes = lot(p, site) < yes_share;

    if (!told(p, site, told_share)) return CAD_OK;
    if (yes) p->logit += weight;
    return cad_str_addf(p->text, " %s: %s.", name, yes ? "yes" : "no");
}

static cad_status tell_who(person *p)
{
    static const char *const smoking[] = {"never", "previous", "current"};
    static const double smoking_weight[] = {0, 0.6, 2.0};
    double draw = lot(p, SMOKING);
    bool male = lot(p, SEX) < 0.48;
    int age = 40 + (int)(lot(p, AGE) * 30), smokes = draw < 0.5 ? 0 : draw < 0.82 ? 1 : 2;

    p->logit += (male ? 1.4 : 0) + 0.1 * (age - 55) + smoking_weight[smokes];
    return cad_str_addf(p->text, "Sex: %s. Age: %d. Smoking: %s.", male ? "male" : "female", age, smoking[smokes]);
}

static cad_status tell_measures(person *p)
{
    double pressure = measured(p, PRESSURE, 139, 18, 95, 210, 1), ldl = measured(p, LDL, 3.6, 0.9, 1.2, 7.5, 0.1), bmi = measured(p, BMI, 27.4, 4.5, 17, 48, 0.1);

    if (told(p, PRESSURE, 0.5)) {
        p->logit += 0.02 * (pressure - 139);
        CAD_TRY(cad_str_addf(p->text, " Systolic pressure: %.0f mmHg.", pressure));
    }
    if (told(p, LDL, 0.4)) {
        p->logit += 0.5 * (ldl - 3.6);
        CAD_TRY(cad_str_addf(p->text, " LDL: %.1f mmol/L.", ldl));
    }
    return told(p, BMI, 0.15) ? cad_str_addf(p->text, " Body mass index: %.1f.", bmi) : CAD_OK;
}

/* Says nothing about the risk: what a model has to learn to ignore. */
static cad_status tell_habits(person *p)
{
    static const char *const alcohol[] = {"never", "special occasions only", "once or twice a week", "daily or almost daily"};
    static const char *const drugs[] = {"paracetamol", "ibuprofen", "omeprazole", "levothyroxine", "salbutamol", "amitriptyline", "vitamin D", "glucosamine"};
    int from = (int)(lot(p, DRUGS) * 8), many = 1 + from % 5;

    if (told(p, ALCOHOL, 0.1)) CAD_TRY(cad_str_addf(p->text, " Alcohol: %s.", alcohol[(int)(lot(p, ALCOHOL) * 4)]));
    if (!told(p, DRUGS, 0.1)) return CAD_OK;
    for (int i = 0; i < many; i++) CAD_TRY(cad_str_addf(p->text, "%s%s", i ? ", " : " Medication: ", drugs[(from + 3 * i) % 8]));
    return cad_str_addf(p->text, ".");
}

static cad_status tell(person *p)
{
    double risk;

    CAD_TRY(cad_str_addf(p->text, "{\"input\": \""));
    CAD_TRY(tell_who(p));
    CAD_TRY(tell_yes_no(p, FAMILY, "Family history", 0.8, 0.35, 1.2));
    CAD_TRY(tell_yes_no(p, DIABETES, "Diabetes", 0.7, 0.15, 1.7));
    CAD_TRY(tell_yes_no(p, PAIN, "Chest pain", 0.7, 0.18, 2.2));
    CAD_TRY(tell_measures(p));
    CAD_TRY(tell_habits(p));
    risk = 1 / (1 + exp(-p->logit));
    return cad_str_addf(p->text, "\", \"output\": %d}\n", lot(p, OUTCOME) < risk);
}

cad_status cad_synth_records(const char *path, int64_t people, uint64_t seed)
{
    cad_str text = {0};
    cad_status status = CAD_OK;

    for (int64_t i = 0; i < people && !status; i++) status = tell(&(person){seed, (uint64_t)i, -3.6, &text});
    if (!status) status = cad_write_file(path, text.data ? text.data : "", text.size);
    cad_str_close(&text);
    return status;
}
