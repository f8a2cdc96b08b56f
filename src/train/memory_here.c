/* How much memory a process of this machine may still take: what the kernel could give, and what every control group above it leaves. */
#include "fit_priv.h"

#include <inttypes.h>
#include <stdio.h>

/* The number behind `key` in a small file of the system's (key "": the first); -1: none, as for "max". */
static int64_t number_in(const char *path, const char *key)
{
    char line[160];
    int64_t value = -1;
    FILE *f = fopen(path, "r");

    while (f && value < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%" SCNd64, &value) != 1) break;
    if (f) fclose(f);
    return value;
}

static int64_t file_number(const char *dir, const char *name, const char *key)
{
    char path[512];

    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return -1;
    return number_in(path, key);
}

/* Pages of files do not count: they are dropped when memory is asked for. */
static int64_t left_in(const char *dir)
{
    int64_t most = file_number(dir, "memory.max", ""), used = file_number(dir, "memory.current", ""), files = file_number(dir, "memory.stat", "file ");

    if (most < 0) return INT64_MAX;
    return cad_max(0, most - cad_max(0, used - cad_max(0, files)));
}

/* "0::/a/b" of /proc/self/cgroup: this process's group, and those it lies in. */
static int64_t left_in_groups(const char *root, const char *self)
{
    char dir[512], line[256] = "";
    int64_t left = left_in(root);
    FILE *f = fopen(self, "r");
    size_t n = strlen(root);

    while (f && strncmp(line, "0::/", 4))
        if (!fgets(line, sizeof line, f)) *line = 0, fclose(f), f = NULL;
    if (f) fclose(f);
    line[strcspn(line, "\n")] = 0;
    if (!*line || snprintf(dir, sizeof dir, "%s%s", root, line + 3) >= (int)sizeof dir) return left;
    for (; strlen(dir) > n; *strrchr(dir, '/') = 0) left = cad_min(left, left_in(dir));
    return left;
}

int64_t cadp_memory_left(const char *meminfo, const char *groups, const char *self)
{
    int64_t kb = number_in(meminfo, "MemAvailable:");

    return cad_min(kb < 0 ? INT64_MAX : kb * 1024, left_in_groups(groups, self));
}

int64_t cadp_memory_here(const cad_run *r, int ranks)
{
    int64_t left, all;

    if (r->o->runtime.device_memory) return r->o->runtime.device_memory;
    if (r->device) cad_device_memory(r->device, &left, &all);
    if (r->device && all) return left; /* a GPU's own, less what the driver took */
    return cadp_memory_left("/proc/meminfo", "/sys/fs/cgroup", "/proc/self/cgroup") / cad_max(1, ranks);
}

cad_status cadp_memory_of_all(const cad_run *r, int64_t *out)
{
    int64_t less = -cadp_memory_here(r, cad_comm_local_size(r->comm));

    CAD_TRY(cad_comm_allreduce(r->comm, &less, 1, CAD_NUM_I64, CAD_MAX));
    *out = -less;
    return CAD_OK;
}
