#include "page_priv.h"

#include <stdarg.h>
#include <stdio.h>

void cadp_page_raw(cadp_page *p, const char *text)
{
    if (!p->status) p->status = cad_str_add(&p->text, text, strlen(text));
}

void cadp_page_put(cadp_page *p, const char *format, ...)
{
    char text[2048];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CAD_ASSERT(n >= 0 && n < (int)sizeof text);
    cadp_page_raw(p, text);
}

void cadp_page_escape(cadp_page *p, const char *text)
{
    for (; *text; text++) {
        char one[2] = {*text, 0};
        const char *as = one;
        if (*text == '&') as = "&amp;";
        else if (*text == '<') as = "&lt;";
        else if (*text == '>') as = "&gt;";
        else if (*text == '"') as = "&quot;";
        else if (*text == '\'') as = "&#39;";
        else if ((unsigned char)*text < 0x20 || *text == 0x7f) as = " ";
        cadp_page_raw(p, as);
    }
}
