#include "cohort_priv.h"

#include <math.h>

const char *const cadp_group_names[CADP_GROUPS] = {"sex", "age_group", "ethnicity", "deprivation", "region", "treated"};

static const char *ethnicity(double code)
{
    int top = code >= 1000 ? (int)(code / 1000) : (int)code;

    if (isnan(code)) return NULL;
    return top == 1 ? "White" : top == 3 || top == 5 ? "Asian" : top == 4 ? "Black" : "Other";
}

static const char *fifth(const cadp_cohort *c, double townsend)
{
    static const char *const words[] = {"1 (least deprived)", "2", "3", "4", "5 (most deprived)"};
    int k = 0;

    if (isnan(townsend) || isnan(c->townsend[0])) return NULL;
    while (k < 4 && townsend > c->townsend[k]) k++;
    return words[k];
}

static const char *treated(double pressure, double cholesterol)
{
    if (pressure == 1 || cholesterol == 1) return "yes";
    return isnan(pressure) || isnan(cholesterol) ? NULL : "no";
}

const char *cadp_group_of(const cadp_cohort *c, int group, int64_t person)
{
    double sex = cadp_named_value(c, "sex", person), age = cadp_named_value(c, "age", person);
    int nation = c->person[person].nation;

    switch (group) {
    case 0: return isnan(sex) ? NULL : sex > 0 ? "men" : "women";
    case 1: return isnan(age) ? NULL : age < 50 ? "49 and under" : age < 60 ? "50 to 59" : "60 and over";
    case 2: return ethnicity(cadp_named_value(c, "ethnicity", person));
    case 3: return fifth(c, cadp_named_value(c, "townsend", person));
    case 4: return nation < 0 ? NULL : c->censoring.nation[nation].name;
    case 5: return treated(cadp_named_value(c, "bp_drug", person), cadp_named_value(c, "cholesterol_drug", person));
    default: return NULL;
    }
}
