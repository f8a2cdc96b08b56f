/* pattern: regular expressions for names in a configuration (target_modules). */
#ifndef CADTRAIN_PATTERN_H
#define CADTRAIN_PATTERN_H
#include <cadtrain/base.h>
/* Does the whole of `name` match `pattern` (Perl syntax, as Python's re.fullmatch)? CAD_EUSAGE for a bad pattern, with its place. */
CAD_CHECKED cad_status cad_full_match(const char *pattern, const char *name, bool *out);
#endif
