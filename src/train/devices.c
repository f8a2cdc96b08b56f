/* Which device a rank computes on, and how units travel between ranks. Who shares a GPU with another rank is found by asking, since what a
 * process sees of its machine depends on its launcher. */
#include "train_priv.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *cadp_device_name(const cad_options *o)
{
    if (strcmp(o->runtime.device, "auto")) return o->runtime.device;
    return cad_device_gpus() ? "cuda" : "cpu";
}

bool cadp_exact(const cad_options *o, const char *device, const char *link)
{
    if (o->training.reduction != CAD_REDUCE_AUTO) return o->training.reduction == CAD_REDUCE_EXACT;
    return strncmp(device, "cuda", 4) && strcmp(link, "nccl");
}

static bool is_set(const char *name)
{
    const char *s = getenv(name);

    return s && *s && strcmp(s, "0");
}

/* GPUs of this machine, seen or not: the driver lists them. CADTRAIN_EMULATED_GPUS: for tests of sharing. */
static int gpus_here(void)
{
    const char *emulated = getenv("CADTRAIN_EMULATED_GPUS");
    int n = emulated ? (int)strtol(emulated, NULL, 10) : 0;
    DIR *list = opendir("/proc/driver/nvidia/gpus");

    for (struct dirent *e; list && (e = readdir(list));) n += *e->d_name != '.';
    if (list) closedir(list);
    return (int)cad_max(n, cad_device_gpus());
}

/* `auto` is the same on all ranks: a GPU where everybody sees one. */
static cad_status same_kind(cad_run *r, const char **kind)
{
    int64_t without = !cad_device_gpus();

    *kind = r->o->runtime.device;
    if (strcmp(*kind, "auto")) return CAD_OK;
    CAD_TRY(cad_comm_allreduce(r->comm, &without, 1, CAD_NUM_I64, CAD_MAX));
    *kind = without ? "cpu" : "cuda";
    return CAD_OK;
}

static cad_status open_mine(cad_run *r, const char *kind)
{
    char name[32];
    int seen = strcmp(kind, "cuda") ? 0 : cad_device_gpus();

    snprintf(name, sizeof name, "%s", kind);
    if (seen) snprintf(name, sizeof name, "cuda:%d", cad_comm_local_rank(r->comm) % seen);
    return cad_device_open(&r->device, name, cadp_threads(r));
}

/* A number for the GPU on its machine; 0: a device of one's own. */
static int64_t number_of(const cad_device *d)
{
    char text[HOST_NAME_MAX + 80] = "", hex[65];
    size_t n;
    cad_sha256 h;

    if (!*cad_device_identity(d)) return 0;
    (void)gethostname(text, HOST_NAME_MAX);
    n = strlen(text);
    snprintf(text + n, sizeof text - n, "/%s", cad_device_identity(d));
    cad_sha256_begin(&h);
    cad_sha256_add(&h, text, strlen(text));
    cad_sha256_end(&h, hex);
    hex[15] = 0; /* 60 bits */
    return (int64_t)strtoull(hex, NULL, 16) | 1;
}

/* The lowest other rank on this rank's GPU; -1: none. */
static cad_status find_partner(cad_run *r, int *partner)
{
    int64_t *all, mine = number_of(r->device);
    cad_status status;

    *partner = -1;
    if ((status = cad_comm_agree(r->comm, cad_alloc(&all, (size_t)r->size, sizeof *all, "the ranks' devices")))) {
        cad_free(&all);
        return status;
    }
    all[r->rank] = mine;
    status = cad_comm_allreduce(r->comm, all, r->size, CAD_NUM_I64, CAD_SUM);
    for (int k = r->size - 1; !status && k >= 0; k--)
        if (mine && k != r->rank && all[k] == mine) *partner = k;
    cad_free(&all);
    return status;
}

static cad_status refuse_mistake(const cad_run *r, int partner, int gpus)
{
    cad_advise("give every rank a GPU of its own (mpirun as it is, or srun --gpus-per-task=1), or share on purpose with CADTRAIN_SHARE_GPU=1");
    return cad_fail(CAD_EUSAGE, "ranks %d and %d are on one GPU (%s), although the machine has %d for its %d ranks", r->rank, partner, cad_device_name(r->device), gpus, cad_comm_local_size(r->comm));
}

/* NCCL refuses two ranks on one GPU: there units go by way of host memory. */
static cad_status choose_link(cad_run *r, int partner)
{
    int64_t shared = partner >= 0;
    const char *wish = getenv("CADTRAIN_LINK");
    bool host = cad_device_on_host(r->device);

    CAD_TRY(cad_comm_allreduce(r->comm, &shared, 1, CAD_NUM_I64, CAD_MAX));
    r->link = r->size == 1 || host ? "host" : shared || !cad_device_has_lanes(r->device) ? "staged" : "nccl";
    if (wish && !host && r->size > 1) r->link = !strcmp(wish, "staged") ? "staged" : "nccl";
    if (shared && !strcmp(r->link, "staged") && !r->rank) cad_warn("device", "ranks share a GPU: NCCL cannot serve them, units travel through host memory");
    return CAD_OK;
}

cad_status cadp_open_device(cad_run *r)
{
    const char *kind;
    int partner = -1, gpus = gpus_here();
    bool mistake;

    CAD_TRY(same_kind(r, &kind));
    CAD_TRY(cad_comm_agree(r->comm, open_mine(r, kind)));
    if (r->size > 1) CAD_TRY(find_partner(r, &partner));
    mistake = partner >= 0 && gpus >= cad_comm_local_size(r->comm) && !is_set("CADTRAIN_SHARE_GPU");
    CAD_TRY(cad_comm_agree(r->comm, mistake ? refuse_mistake(r, partner, gpus) : CAD_OK));
    CAD_TRY(choose_link(r, partner));
    r->exact = cadp_exact(r->o, cad_device_name(r->device), r->link);
    return CAD_OK;
}

/* ---- memory ---- */

/* GPU memory is not only ours: what the driver, cuBLASLt and NCCL took is told once everything has run. */
void cadp_say_device_memory(const cad_run *r)
{
    int64_t left, all, ours = cad_device_bytes(r->device);

    cad_device_memory(r->device, &left, &all);
    if (r->rank || !all) return;
    cad_info("Device memory (MiB): %.1f of %.1f in use: %.1f ours as planned, %.1f the driver's, the libraries' (cuBLASLt%s%s) and other programs'", (double)(all - left) / 0x1p20, (double)all / 0x1p20,
             (double)ours / 0x1p20, (double)cad_max(0, all - left - ours) / 0x1p20, *cad_zero_library(r->zero) ? ", " : "", cad_zero_library(r->zero));
}
