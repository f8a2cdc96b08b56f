#include "cohort_priv.h"

#include <time.h>

/* Days of the civil calendar (Hinnant 2013). */
int32_t cadp_day_of(int year, int month, int day)
{
    int y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

    return era * 146097 + doe - 719468;
}

void cadp_day_parts(int32_t day, int *year, int *month, int *dom)
{
    int z = day + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

    *dom = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = yoe + era * 400 + (*month <= 2);
}

static bool digits(const char *text, int n, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (text[i] - '0');
    }
    return true;
}

/* A time of day may follow the date. */
static bool only_time(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" T:0123456789.Z+", text[i])) return false;
    return !n || text[0] == ' ' || text[0] == 'T';
}

static bool parts(const char *text, size_t n, int *form, int *y, int *m, int *d)
{
    if (n < 10 || !only_time(text + 10, n - 10)) return false;
    if (text[4] == '-' && text[7] == '-') {
        *form = CADP_FORM_ISO;
        return digits(text, 4, y) && digits(text + 5, 2, m) && digits(text + 8, 2, d);
    }
    if (text[2] != '/' || text[5] != '/') return false;
    *form = CADP_FORM_DMY;
    return digits(text, 2, d) && digits(text + 3, 2, m) && digits(text + 6, 4, y);
}

static int month_days(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return m == 2 && y % 4 == 0 && (y % 100 || y % 400 == 0) ? 29 : days[m - 1];
}

/* Codings 819, 272 and 586 say with such days that the true one is not known. */
static bool is_placeholder(int y, int m, int d)
{
    static const int odd[][3] = {{1900, 1, 1}, {1901, 1, 1}, {1902, 2, 2}, {1903, 3, 3}, {1909, 9, 9}, {1910, 1, 1}, {1920, 1, 1}, {1930, 1, 1}, {2037, 7, 7}};

    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        if (odd[i][0] == y && odd[i][1] == m && odd[i][2] == d) return true;
    return false;
}

static int this_year(void)
{
    time_t now = time(NULL);
    struct tm t;

    return gmtime_r(&now, &t)->tm_year + 1900;
}

const char *cadp_day_read(const char *text, size_t n, int *form, int32_t *out)
{
    int found = 0, y, m, d;
    cadp_text cell = {text, (uint32_t)n, false};

    *out = CADP_NO_DAY;
    if (cadp_is_missing(&cell)) return NULL;
    if (!parts(text, n, &found, &y, &m, &d)) return "a date as 2008-03-31 or 31/03/2008, found another form";
    if (*form && *form != found) return *form == CADP_FORM_ISO ? "a date as 2008-03-31 as before in this column, found 31/03/2008's form" : "a date as 31/03/2008 as before in this column, found 2008-03-31's form";
    if (m < 1 || m > 12 || d < 1 || d > month_days(y, m)) return "a day of the calendar (day before month where there are strokes), found none";
    *form = found;
    *out = is_placeholder(y, m, d) || y < 1930 || y > this_year() ? CADP_ODD_DAY : cadp_day_of(y, m, d);
    return NULL;
}
