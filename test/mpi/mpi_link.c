/* np: 1 2 3 4 */
/* Every kind of link brings the same bytes, in parts that are even, uneven and empty; sums are exact where numbers are small. */
#include "ranks.h"

#include <cadtrain/link.h>

enum { MOST = 6000, BEYOND = 64, FLIGHTS = 6 };
typedef struct kind { const char *name, *device; } kind;
static const kind kinds[] = {{"host", "cpu"}, {"staged", "cpu"}, {"staged", "emulated"}, {"nccl", "emulated"}};
static const cad_num types[] = {CAD_NUM_F32, CAD_NUM_I64, CAD_NUM_BF16};

static int rank, size;

static size_t each_of(cad_num type) { return type == CAD_NUM_I64 ? 8 : type == CAD_NUM_F32 ? 4 : 2; }

/* Small whole numbers: sums of four are exact even in bf16. */
static int value(int of_rank, int64_t i) { return (int)((of_rank * 31 + i * 7) % 23) - 11; }

static void put(void *at, cad_num type, int64_t i, int v)
{
    if (type == CAD_NUM_I64) ((int64_t *)at)[i] = v;
    else if (type == CAD_NUM_F32) ((float *)at)[i] = (float)v;
    else ((uint16_t *)at)[i] = cad_f32_to_bf16((float)v);
}

static int get(const void *at, cad_num type, int64_t i)
{
    return type == CAD_NUM_I64 ? (int)((const int64_t *)at)[i] : type == CAD_NUM_F32 ? (int)((const float *)at)[i] : (int)cad_bf16_to_f32(((const uint16_t *)at)[i]);
}

/* how 0: even parts; 1: uneven ones; 2: all of it on the last rank; 3: nothing */
static void cut(int how, int64_t *at)
{
    at[0] = 0;
    for (int k = 0; k < size; k++) at[k + 1] = at[k] + (how == 0 ? MOST / size : how == 1 ? 100 + 701 * k : how == 2 ? (k == size - 1) * MOST : 0);
}

/* Device memory with `n` of these values, and canaries behind. */
static void *filled(cad_device *d, cad_num type, int64_t n, int of_rank)
{
    static char host[(MOST + BEYOND) * 8];
    void *p;

    memset(host, 0x5a, sizeof host);
    for (int64_t i = 0; i < n; i++) put(host, type, i, value(of_rank, i));
    CHECK_OK(cad_device_alloc(d, &p, (int64_t)(sizeof host), "a buffer"));
    CHECK_OK(cad_device_upload(d, p, host, (int64_t)sizeof host));
    return p;
}

static void expect(cad_device *d, const void *p, cad_num type, int64_t from, int64_t n, int of_rank, bool sums)
{
    static char host[(MOST + BEYOND) * 8];

    CHECK_OK(cad_device_download(d, host, p, (int64_t)sizeof host));
    for (int64_t i = 0; i < n; i++) {
        int want = sums ? 0 : value(of_rank, from + i);
        for (int k = 0; sums && k < size; k++) want += value(k, from + i);
        CHECK(get(host, type, (sums ? 0 : from) + i) == want);
    }
    for (size_t i = ((size_t)(sums ? 0 : from) + (size_t)n) * each_of(type); sums && i < sizeof host; i++) CHECK(host[i] == 0x5a);
}

static void parts_arrive(cad_link *l, cad_device *d, cad_num type, int how)
{
    int64_t at[8], before = cad_comm_wire_bytes(world, CAD_WIRE_GATHER);
    cad_request r;
    void *p;

    cut(how, at);
    p = filled(d, type, at[size], rank);
    CHECK_OK(cad_link_gather(l, p, at, type, &r));
    CHECK_OK(cad_link_wait(l, &r));
    for (int k = 0; k < size; k++) expect(d, p, type, at[k], at[k + 1] - at[k], k, false);
    CHECK(cad_comm_wire_bytes(world, CAD_WIRE_GATHER) - before == (size > 1 ? at[size] * (int64_t)each_of(type) : 0));
    cad_device_free(d, &p);
}

static void sums_arrive(cad_link *l, cad_device *d, cad_num type, int how)
{
    int64_t at[8], before = cad_comm_wire_bytes(world, CAD_WIRE_SCATTER);
    cad_request r;
    void *p, *out;

    cut(how, at);
    p = filled(d, type, at[size], rank);
    out = filled(d, type, 0, 0);
    CHECK_OK(cad_link_scatter(l, p, out, at, type, &r));
    CHECK_OK(cad_link_wait(l, &r));
    expect(d, out, type, at[rank], at[rank + 1] - at[rank], 0, true);
    CHECK(cad_comm_wire_bytes(world, CAD_WIRE_SCATTER) - before == (size > 1 ? at[size] * (int64_t)each_of(type) : 0));
    cad_device_free(d, &p);
    cad_device_free(d, &out);
}

/* What the device computed before is what travels; what it computes after the wait sees what came; several are on their way at once. */
static void transfers_keep_the_order_of_the_device(cad_link *l, cad_device *d)
{
    int64_t at[8];
    cad_request r[FLIGHTS];
    void *p[FLIGHTS], *copy;
    cad_tensor x, y;

    cut(1, at);
    copy = filled(d, CAD_NUM_F32, 0, 0);
    for (int i = 0; i < FLIGHTS; i++) {
        p[i] = filled(d, CAD_NUM_F32, at[size], rank + i);
        x = cad_view(p[i], CAD_F32, 1, at[size]);
        CHECK_OK(cad_axpby(d, &(cad_axpby_args){.y = x, .x = x, .alpha = 2}));
        CHECK_OK(cad_link_gather(l, p[i], at, CAD_NUM_F32, &r[i]));
    }
    for (int i = 0; i < FLIGHTS; i++) {
        CHECK_OK(cad_link_wait(l, &r[i]));
        x = cad_view(p[i], CAD_F32, 1, at[size]);
        y = cad_view(copy, CAD_F32, 1, at[size]);
        CHECK_OK(cad_axpby(d, &(cad_axpby_args){.y = y, .x = x, .alpha = 0.5}));
        for (int k = 0; k < size; k++) expect(d, copy, CAD_NUM_F32, at[k], at[k + 1] - at[k], k + i, false);
        cad_device_free(d, &p[i]);
    }
    cad_device_free(d, &copy);
}

static void every_kind_works(const kind *k)
{
    cad_device *d;
    cad_link *l;

    CHECK_OK(cad_device_open(&d, k->device, 1));
    CHECK_OK(cad_device_reserve(d, 1 << 20));
    CHECK_OK(cad_link_open(&l, world, d, k->name));
    CHECK(!strcmp(cad_link_kind(l), size == 1 && *k->name == 'n' ? "host" : k->name));
    CHECK((*cad_link_library(l) != 0) == (size > 1 && *k->name == 'n'));
    for (int how = 0; how < 4; how++)
        for (int t = 0; t < 3; t++) {
            parts_arrive(l, d, types[t], how);
            if (types[t] != CAD_NUM_BF16 || *k->name == 'n' || size == 1) sums_arrive(l, d, types[t], how);
        }
    transfers_keep_the_order_of_the_device(l, d);
    cad_link_close(&l);
    CHECK_OK(cad_device_close(&d));
}

static void what_is_no_kind_is_refused(void)
{
    cad_device *d;
    cad_link *l;

    CHECK_OK(cad_device_open(&d, "cpu", 1));
    CHECK(cad_link_open(&l, world, d, "carrier pigeon") == CAD_EUSAGE && strstr(cad_reason(), "expected host, staged or nccl") && !l);
    cad_clear();
    if (size > 1) CHECK(cad_link_open(&l, world, d, "nccl") == CAD_EUSAGE && strstr(cad_reason(), "one queue") && !l);
    cad_clear();
    CHECK_OK(cad_device_close(&d));
}

/* The stand-in does its work when somebody waits for it: who looks before sees what was there. */
static void who_does_not_wait_sees_nothing(void)
{
    int64_t at[8];
    cad_device *d;
    cad_link *l;
    cad_request r;
    void *p, *out;

    if (size == 1) return;
    CHECK_OK(cad_device_open(&d, "emulated", 1));
    CHECK_OK(cad_link_open(&l, world, d, "nccl"));
    cut(0, at);
    p = filled(d, CAD_NUM_F32, at[size], rank);
    out = filled(d, CAD_NUM_F32, 0, 0);
    CHECK_OK(cad_link_scatter(l, p, out, at, CAD_NUM_F32, &r));
    CHECK(((char *)out)[0] == 0x5a);
    CHECK_OK(cad_link_wait(l, &r));
    expect(d, out, CAD_NUM_F32, at[rank], at[rank + 1] - at[rank], 0, true);
    cad_device_free(d, &p);
    cad_device_free(d, &out);
    cad_link_close(&l);
    CHECK_OK(cad_device_close(&d));
}

/* test/mpi/link_faults.sh: gathers until something fails, and ends as the program does. */
static int until_it_fails(void)
{
    cad_device *d = NULL;
    cad_link *l = NULL;
    int64_t at[8];
    cad_request r;
    cad_status status;
    void *p;

    cad_log_setup(rank, size, CAD_LOG_INFO);
    CHECK_OK(cad_watchdog_start(3, rank));
    CHECK_OK(cad_device_open(&d, "emulated", 1));
    cut(0, at);
    p = filled(d, CAD_NUM_F32, at[size], rank);
    if ((status = cad_link_open(&l, world, d, "nccl"))) { /* all ranks come here */
        cad_status verdict = cad_comm_verdict(world, NULL);
        if (status != CAD_EPEER) cad_print_failure();
        cad_watchdog_stop();
        cad_comm_close(&world);
        return (int)verdict;
    }
    for (int i = 0; i < 20 && !status; i++) {
        cad_watchdog_beat("gathering", i);
        if (!(status = cad_link_gather(l, p, at, CAD_NUM_F32, &r))) status = cad_link_wait(l, &r);
        if (!status && getenv("CADTRAIN_TEST_SLEEPS") && i == 5) sleep(30); /* only the watchdog is awake */
    }
    if (!status) return 0;
    cad_print_failure();
    cad_comm_abort(world, status);
}

int main(int argc, char **argv)
{
    cad_status status = cad_comm_open(&world, "mpi");

    if (status) return (int)status;
    rank = cad_comm_rank(world);
    size = cad_comm_size(world);
    if (argc > 1 && !strcmp(argv[1], "fails")) return until_it_fails();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) every_kind_works(&kinds[i]);
    what_is_no_kind_is_refused();
    who_does_not_wait_sees_nothing();
    if (!rank) printf("ok links\n");
    cad_comm_close(&world);
    return 0;
}
