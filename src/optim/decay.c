#include <cadtrain/optim.h>

#include <strings.h>

static bool has(const char *name, const char *word) { return strcasestr(name, word) != NULL; }

/* "norm" as a whole part of the name, or as the end of a part behind an underscore: (^|[._])norm(.|$) */
static bool has_norm_part(const char *name)
{
    for (const char *at = name; (at = strcasestr(at, "norm")); at++) {
        bool begins = at == name || at[-1] == '.' || at[-1] == '_', ends = !at[4] || at[4] == '.';
        if (begins && ends) return true;
    }
    return false;
}

bool cad_decays(const char *name) { return !has(name, "bias") && !has(name, "layernorm") && !has(name, "rmsnorm") && !has_norm_part(name); }
