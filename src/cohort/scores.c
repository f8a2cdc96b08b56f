/* Clinical scores as published. Coefficients: D'Agostino 2008; Goff 2013; Khan 2023 (PREVENT, CHD, base model); SCORE2 2021; CKD-EPI 2021. */
#include <cadtrain/cohort.h>

#include <math.h>
#include <stdio.h>

/* mmol/L to mg/dL of cholesterol. */
static double mg_dl(double mmol) { return mmol * 38.67; }

static double survival_risk(double s0, double l, double mean) { return 1 - pow(s0, exp(l - mean)); }

double cad_framingham(const cad_score_inputs *x)
{
    static const double b[2][9] = {{2.32888, 1.20904, -0.70833, 2.76157, 2.82263, 0.52873, 0.69154, 0.95012, 26.1931},
                                   {3.06117, 1.12370, -0.93263, 1.93303, 1.99881, 0.65451, 0.57367, 0.88936, 23.9802}};
    const double *c = b[x->male > 0];
    double pressure = x->pressure_drug * c[4] + (1 - x->pressure_drug) * c[3];
    double l = c[0] * log(x->age) + c[1] * log(mg_dl(x->cholesterol)) + c[2] * log(mg_dl(x->hdl)) + pressure * log(x->pressure) + c[5] * x->smoker + c[6] * x->diabetes;

    return isnan(x->male) ? NAN : survival_risk(c[7], l, c[8]);
}

double cad_framingham_bmi(const cad_score_inputs *x)
{
    static const double b[2][8] = {{2.72107, 0.51125, 2.81291, 2.88267, 0.61868, 0.77763, 0.94833, 26.0145},
                                   {3.11296, 0.79277, 1.85508, 1.92672, 0.70953, 0.53160, 0.88431, 23.9388}};
    const double *c = b[x->male > 0];
    double pressure = x->pressure_drug * c[3] + (1 - x->pressure_drug) * c[2];
    double l = c[0] * log(x->age) + c[1] * log(x->bmi) + pressure * log(x->pressure) + c[4] * x->smoker + c[5] * x->diabetes;

    return isnan(x->male) ? NAN : survival_risk(c[6], l, c[7]);
}

double cad_prevent_chd(const cad_score_inputs *x)
{
    enum { A, N, H, S1, S2, DM, SMK, E1, E2, BPM, ST, BPM_S2, ST_N, A_N, A_H, A_S2, A_DM, A_SMK, A_E1, CONSTANT, TERMS };
    static const double b[2][TERMS] = {
        {.7587146, .1810949, -.2014507, -.0881827, .3547731, .9045358, .5410917, .5198725, .0325935, .2010642, -.036195, -.0891238, .0750716,
         -.0683256, .0484755, -.0898086, -.2569041, -.0786607, -.1597513, -4.608751},
        {.7423283, .2572109, -.1820374, -.3174515, .312778, .7485249, .3912047, .376487, .0193687, .1588199, -.0494555, -.0577851, .0809765,
         -.0517872, .0489033, -.0850404, -.2107552, -.1206397, -.07795, -4.156753}};
    const double *c = b[x->male > 0];
    double a = (x->age - 55) / 10, n = x->cholesterol - x->hdl - 3.5, h = (x->hdl - 1.3) / 0.3, p = x->pressure, e = x->egfr;
    double s1 = ((p < 110 ? p : 110) - 110) / 20, s2 = ((p > 110 ? p : 110) - 130) / 20;
    double e1 = ((e < 60 ? e : 60) - 60) / -15, e2 = ((e > 60 ? e : 60) - 90) / -15;
    double l = c[A] * a + c[N] * n + c[H] * h + c[S1] * s1 + c[S2] * s2 + c[DM] * x->diabetes + c[SMK] * x->smoker + c[E1] * e1 + c[E2] * e2 + c[BPM] * x->pressure_drug;

    if (isnan(x->male) || isnan(p) || isnan(e)) return NAN;
    l += c[ST] * x->statin + c[BPM_S2] * x->pressure_drug * s2 + c[ST_N] * x->statin * n + c[A_N] * a * n + c[A_H] * a * h + c[A_S2] * a * s2;
    l += c[A_DM] * a * x->diabetes + c[A_SMK] * a * x->smoker + c[A_E1] * a * e1 + c[CONSTANT];
    return 1 / (1 + exp(-l));
}

double cad_pce(const cad_score_inputs *x)
{
    static const double b[2][2][15] = {
        {{-29.799, 4.884, 13.540, -3.114, -13.578, 3.149, 2.019, 0, 1.957, 0, 7.574, -1.665, .661, .9665, -29.18},
         {17.114, 0, .940, 0, -18.920, 4.475, 29.291, -6.432, 27.820, -6.087, .691, 0, .874, .9533, 86.61}},
        {{12.344, 0, 11.853, -2.664, -7.990, 1.769, 1.797, 0, 1.764, 0, 7.837, -1.795, .658, .9144, 61.18},
         {2.469, 0, .302, 0, -.307, 0, 1.916, 0, 1.809, 0, .549, 0, .645, .8954, 19.54}}};
    const double *c = b[x->male > 0][x->black > 0]; /* who is not known to be Black counts as White, as the equations say for others */
    double a = log(x->age), tc = log(mg_dl(x->cholesterol)), hdl = log(mg_dl(x->hdl));
    double pressure = x->pressure_drug * (c[6] + c[7] * a) + (1 - x->pressure_drug) * (c[8] + c[9] * a);
    double l = c[0] * a + c[1] * a * a + (c[2] + c[3] * a) * tc + (c[4] + c[5] * a) * hdl + pressure * log(x->pressure) + (c[10] + c[11] * a) * x->smoker + c[12] * x->diabetes;

    return isnan(x->male) ? NAN : survival_risk(c[13], l, c[14]);
}

double cad_score2(const cad_score_inputs *x, cad_region region)
{
    static const double b[2][12] = {{.4648, .7744, .3131, .8096, .1002, -.2606, -.1088, -.0277, -.0226, .0613, -.1272, .9776},
                                    {.3742, .6012, .2777, .6457, .1458, -.2698, -.0755, -.0255, -.0281, .0426, -.0983, .9605}};
    static const double scale[4][2][2] = {
        {{-.7380, .7019}, {-.5699, .7476}}, {{-.3143, .7701}, {-.1565, .8009}}, {{.5710, .9369}, {.3207, .9360}}, {{.9412, .8329}, {.5836, .8294}}};
    const double *c = b[x->male > 0], *k = scale[region][x->male > 0];
    double a = (x->age - 60) / 5, s = (x->pressure - 120) / 20, t = x->cholesterol - 6, h = (x->hdl - 1.3) / 0.5;
    double l = c[0] * a + c[1] * x->smoker + c[2] * s + c[3] * x->diabetes + c[4] * t + c[5] * h + a * (c[6] * x->smoker + c[7] * s + c[8] * t + c[9] * h + c[10] * x->diabetes);
    double cumulative = -exp(l) * log(c[11]); /* -ln(1 - u) */

    return isnan(x->male) ? NAN : 1 - exp(-exp(k[0] + k[1] * log(cumulative)));
}

double cad_score_risk(cad_score score, const cad_score_inputs *x)
{
    switch (score) {
    case CAD_SCORE_FRAMINGHAM: return cad_framingham(x);
    case CAD_SCORE_PREVENT: return cad_prevent_chd(x);
    case CAD_SCORE_PCE: return cad_pce(x);
    case CAD_SCORE_SCORE2: return cad_score2(x, CAD_REGION_LOW);
    case CAD_SCORES: break;
    }
    return NAN;
}

const char *cad_score_name(cad_score score)
{
    static const char *const names[CAD_SCORES] = {"framingham", "prevent_chd", "pce", "score2"};

    return names[score];
}

double cad_egfr(bool male, double age, double creatinine)
{
    double r = creatinine / (male ? 79.6 : 61.9);

    return 142 * pow(r < 1 ? r : 1, male ? -0.302 : -0.241) * pow(r > 1 ? r : 1, -1.2) * pow(0.9938, age) * (male ? 1 : 1.012);
}

void cad_score_lacks(cad_score score, const cad_score_inputs *x, char *out, size_t room)
{
    bool prevent = score == CAD_SCORE_PREVENT, drug = score != CAD_SCORE_SCORE2;
    const struct { const char *name; double value; bool needed; } input[] = {
        {"sex", x->male, true}, {"age", x->age, true}, {"total_cholesterol", x->cholesterol, true}, {"hdl", x->hdl, true}, {"sbp", x->pressure, true},
        {"smoking", x->smoker, true}, {"diabetes", x->diabetes, true}, {"bp_drug", x->pressure_drug, drug}, {"cholesterol_drug", x->statin, prevent},
        {"creatinine", x->egfr, prevent}};
    size_t used = 0;

    out[0] = 0;
    for (size_t i = 0; i < sizeof input / sizeof *input; i++) {
        if (!input[i].needed || !isnan(input[i].value) || used + 1 >= room) continue;
        used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", input[i].name);
    }
}
