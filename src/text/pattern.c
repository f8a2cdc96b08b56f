#include <cadtrain/pattern.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static cad_status refused(const char *pattern, int code, size_t at)
{
    char text[256];

    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    return cad_fail(CAD_EUSAGE, "\"%s\" is no regular expression: %s at character %zu", pattern, text, at + 1);
}

cad_status cad_full_match(const char *pattern, const char *name, bool *out)
{
    int code;
    size_t at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code, &at, NULL);
    pcre2_match_data *found = NULL;
    cad_status status = CAD_OK;

    if (!re) return refused(pattern, code, at);
    found = pcre2_match_data_create_from_pattern(re, NULL);
    if (!found) status = cad_fail(CAD_ERESOURCE, "out of memory: a regular expression");
    else {
        code = pcre2_match(re, (PCRE2_SPTR)name, strlen(name), 0, 0, found, NULL);
        *out = code >= 0;
        if (code < 0 && code != PCRE2_ERROR_NOMATCH) status = refused(pattern, code, 0);
    }
    pcre2_match_data_free(found);
    pcre2_code_free(re);
    return status;
}
