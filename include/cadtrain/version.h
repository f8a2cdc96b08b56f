/* The program's version, as `cadtrain version` and run.json say it. */
#ifndef CADTRAIN_VERSION_H
#define CADTRAIN_VERSION_H
#define CAD_VERSION "0.1.0"
typedef struct cad_version { int major, minor, patch; } cad_version; /* the same as numbers */
static const cad_version cad_version_now = {0, 1, 0};
static inline const cad_version *cad_version_numbers(void) { return &cad_version_now; }
#endif
