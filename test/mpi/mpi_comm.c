/* np: 1 2 3 4 5 */
#include "../../src/comm/comm_priv.h"
#include "ranks.h"

/* Sums of small integers times a power of two are exact in every type and order, so each expected value is known bit by bit. */
enum { LONGEST = 4099 };
static int rank, size;

/* Parts of unequal length; some empty when there are three ranks or more; `empty` makes all but one so. */
static void cut(int64_t *at, int64_t n, bool empty)
{
    at[0] = 0;
    for (int k = 0; k < size; k++) {
        int64_t part = empty ? (k == size / 2 ? n : 0) : k % 3 == 2 ? 0 : cad_max(0, n / (size + k) - k);
        at[k + 1] = k == size - 1 && !empty ? n : at[k] + part;
    }
}

static void put(void *buffer, cad_num type, int64_t i, int64_t value)
{
    switch (type) {
    case CAD_NUM_U8: ((uint8_t *)buffer)[i] = (uint8_t)value; break;
    case CAD_NUM_I32: ((int32_t *)buffer)[i] = (int32_t)value; break;
    case CAD_NUM_I64: ((int64_t *)buffer)[i] = value; break;
    case CAD_NUM_F32: ((float *)buffer)[i] = (float)value * 0x1p-9f; break;
    case CAD_NUM_F64: ((double *)buffer)[i] = (double)value * 0x1p-9; break;
    case CAD_NUM_BF16: ((uint16_t *)buffer)[i] = cad_f32_to_bf16((float)(value & 127)); break;
    }
}

static void expect(const void *buffer, cad_num type, int64_t i, int64_t value)
{
    double want = 0;

    put(&want, type, 0, value);
    CHECK(!memcmp(&want, (const char *)buffer + (size_t)i * cadp_num_bytes(type), cadp_num_bytes(type)));
}

static void gathered_parts_are_everywhere(cad_num type, int64_t n, bool empty)
{
    double buffer[LONGEST + 1];
    int64_t at[64], before = cad_comm_wire_bytes(world, CAD_WIRE_GATHER);
    cad_request r;

    cut(at, n, empty);
    memset(buffer, 0xff, sizeof buffer);
    for (int64_t i = at[rank]; i < at[rank + 1]; i++) put(buffer, type, i, i % 97 + rank);
    CHECK_OK(cad_comm_igather(world, buffer, at, type, &r));
    cad_comm_progress(world);
    CHECK_OK(cad_comm_wait(world, &r, NULL));
    CHECK(!r.handle);
    for (int k = 0; k < size; k++)
        for (int64_t i = at[k]; i < at[k + 1]; i++) expect(buffer, type, i, i % 97 + k);
    CHECK(((unsigned char *)buffer)[(size_t)n * cadp_num_bytes(type)] == 0xff);
    CHECK(cad_comm_wire_bytes(world, CAD_WIRE_GATHER) - before == (size > 1 ? n * (int64_t)cadp_num_bytes(type) : 0));
}

static void scattered_sums_are_exact(cad_num type, int64_t n, bool empty)
{
    double buffer[LONGEST], out[LONGEST + 1];
    int64_t at[64], before = cad_comm_wire_bytes(world, CAD_WIRE_SCATTER);
    cad_request r;

    cut(at, n, empty);
    memset(out, 0xff, sizeof out);
    for (int64_t i = 0; i < n; i++) put(buffer, type, i, (i + 1) * (rank + 1));
    CHECK_OK(cad_comm_iscatter(world, buffer, out, at, type, &r));
    CHECK_OK(cad_comm_wait(world, &r, NULL));
    for (int64_t i = at[rank]; i < at[rank + 1]; i++) expect(out, type, i - at[rank], (i + 1) * size * (size + 1) / 2);
    CHECK(((unsigned char *)out)[(size_t)(at[rank + 1] - at[rank]) * cadp_num_bytes(type)] == 0xff);
    CHECK(cad_comm_wire_bytes(world, CAD_WIRE_SCATTER) - before == (size > 1 ? n * (int64_t)cadp_num_bytes(type) : 0));
}

/* 2^24 swallows single ones when it comes first, but not their sum: only rank order gives this value. */
static void float_sums_are_in_rank_order(void)
{
    static float buffer[40000], out[40000];
    int64_t at[64] = {0};
    float want = 0;
    cad_request r;

    for (int k = 0; k < size; k++) at[k + 1] = at[k] + 40000 / size;
    for (int64_t i = 0; i < at[size]; i++) buffer[i] = rank == size / 2 ? 0x1p24f : 1;
    for (int k = 0; k < size; k++) want += k == size / 2 ? 0x1p24f : 1;
    CHECK_OK(cad_comm_iscatter(world, buffer, out, at, CAD_NUM_F32, &r));
    CHECK_OK(cad_comm_wait(world, &r, NULL));
    for (int64_t i = 0; i < at[rank + 1] - at[rank]; i++) CHECK(out[i] == want);
    CHECK_OK(cad_comm_allreduce(world, buffer, at[size], CAD_NUM_F32, CAD_SUM));
    for (int64_t i = 0; i < at[size]; i++) CHECK(buffer[i] == want);
}

static void reductions_are_exact(cad_num type)
{
    double sum[300], max[300];

    for (int64_t i = 0; i < 300; i++) {
        put(sum, type, i, i % 11 + rank);
        put(max, type, i, (i * 7 + rank * 5) % 13);
    }
    CHECK_OK(cad_comm_allreduce(world, sum, 300, type, CAD_SUM));
    CHECK_OK(cad_comm_allreduce(world, max, 300, type, CAD_MAX));
    for (int64_t i = 0; i < 300; i++) {
        int64_t largest = 0;
        for (int k = 0; k < size; k++) largest = cad_max(largest, (i * 7 + k * 5) % 13);
        expect(sum, type, i, i % 11 * size + size * (size - 1) / 2);
        expect(max, type, i, largest);
    }
}

static void a_nan_survives_the_maximum(void)
{
    for (int planted = 0; planted < size; planted++) {
        double x = rank == planted ? (double)__builtin_nanf("") : rank;
        float y = (float)x;
        CHECK_OK(cad_comm_allreduce(world, &x, 1, CAD_NUM_F64, CAD_MAX));
        CHECK_OK(cad_comm_allreduce(world, &y, 1, CAD_NUM_F32, CAD_MAX));
        CHECK(x != x && y != y);
    }
}

static void many_are_in_flight_at_once(void)
{
    enum { ROUNDS = 3, PAIRS = CADP_LANES / 2 };
    static float gathered[PAIRS][LONGEST], given[PAIRS][LONGEST], out[PAIRS][LONGEST];
    int64_t at[PAIRS][64], calls = 0;
    cad_request g[PAIRS], s[PAIRS];

    for (int round = 0; round < ROUNDS; round++) {
        if (round == 1) calls = cad_mem_calls();
        for (int p = 0; p < PAIRS; p++) {
            cut(at[p], LONGEST - 500 * p, p == 3);
            for (int64_t i = at[p][rank]; i < at[p][rank + 1]; i++) put(gathered[p], CAD_NUM_F32, i, i + p);
            for (int64_t i = 0; i < at[p][size]; i++) put(given[p], CAD_NUM_F32, i, i + p + rank);
            CHECK_OK(cad_comm_igather(world, gathered[p], at[p], CAD_NUM_F32, &g[p]));
            CHECK_OK(cad_comm_iscatter(world, given[p], out[p], at[p], CAD_NUM_F32, &s[p]));
        }
        for (int p = PAIRS - 1; p >= 0; p--) {
            CHECK_OK(cad_comm_wait(world, &s[p], NULL));
            CHECK_OK(cad_comm_wait(world, &g[p], NULL));
            for (int64_t i = 0; i < at[p][size]; i++) expect(gathered[p], CAD_NUM_F32, i, i + p);
            for (int64_t i = at[p][rank]; i < at[p][rank + 1]; i++)
                expect(out[p], CAD_NUM_F32, i - at[p][rank], (i + p) * size + size * (size - 1) / 2);
        }
    }
    CHECK(cad_mem_calls() == calls); /* nothing is allocated after the first round */
}

static void a_transfer_too_many_is_refused(void)
{
    static int64_t buffer[8], out[8];
    int64_t at[64] = {0};
    cad_request r[CADP_LANES], more;

    for (int k = 0; k < size; k++) at[k + 1] = 8;
    for (int i = 0; i < CADP_LANES; i++) CHECK_OK(cad_comm_iscatter(world, buffer, out, at, CAD_NUM_I64, &r[i]));
    if (size > 1) CHECK(cad_comm_igather(world, buffer, at, CAD_NUM_I64, &more) == CAD_EINTERNAL && cad_reason()[0]);
    cad_clear();
    for (int i = 0; i < CADP_LANES; i++) CHECK_OK(cad_comm_wait(world, &r[i], NULL));
}

static void messages_arrive_with_their_length(size_t n)
{
    static char out[5000], in[8][5000];
    int64_t before = cad_comm_wire_bytes(world, CAD_WIRE_BATCH);
    cad_request s[8], r[8];
    size_t got;

    for (size_t i = 0; i < n; i++) out[i] = (char)(i * 31 + (size_t)rank);
    memset(in, 0, sizeof in);
    for (int k = 0; k < size; k++) CHECK_OK(cad_comm_irecv(world, in[k], sizeof in[k], k, 7, &r[k]));
    for (int k = 0; k < size; k++) CHECK_OK(cad_comm_isend(world, out, n - (size_t)k * (n > 8), k, 7, &s[k]));
    for (int k = 0; k < size; k++) {
        size_t want = n - (size_t)rank * (n > 8);
        CHECK_OK(cad_comm_wait(world, &r[k], &got));
        CHECK_OK(cad_comm_wait(world, &s[k], NULL));
        CHECK(got == want && in[k][want] == 0);
        for (size_t i = 0; i < want; i++) CHECK(in[k][i] == (char)(i * 31 + (size_t)k));
    }
    for (int k = 0; k < size; k++) before += k == rank ? 0 : (int64_t)(n - (size_t)k * (n > 8));
    CHECK(cad_comm_wire_bytes(world, CAD_WIRE_BATCH) == before);
}

static void a_message_longer_than_its_room_is_an_error(void)
{
    char out[100] = {0}, in[99];
    int to = (rank + 1) % size, from = (rank + size - 1) % size;
    cad_request s, r;

    CHECK_OK(cad_comm_irecv(world, in, sizeof in, from, 1, &r));
    CHECK_OK(cad_comm_isend(world, out, sizeof out, to, 1, &s));
    CHECK(cad_comm_wait(world, &r, NULL) == CAD_EINTERNAL);
    CHECK(strstr(cad_reason(), "longer than its room of 99 bytes"));
    cad_clear();
    CHECK_OK(cad_comm_wait(world, &s, NULL));
}

static void bytes_are_broadcast_and_collected(int64_t n)
{
    char text[LONGEST], all[LONGEST + 1];
    int64_t at[64];

    for (int root = 0; root < size; root++) {
        for (int64_t i = 0; i < n; i++) text[i] = rank == root ? (char)(i * 7 + root) : 0;
        CHECK_OK(cad_comm_bcast(world, text, (size_t)n, root));
        for (int64_t i = 0; i < n; i++) CHECK(text[i] == (char)(i * 7 + root));
        cut(at, n, root == 1);
        memset(all, 0x55, sizeof all);
        CHECK_OK(cad_comm_collect(world, text + at[rank], rank == root ? all : NULL, at, root));
        if (rank == root) CHECK(!memcmp(all, text, (size_t)at[size]) && all[n] == 0x55);
    }
}

static void a_failure_on_any_rank_is_everybodys(void)
{
    int who;

    CHECK_OK(cad_comm_agree(world, CAD_OK));
    CHECK(cad_comm_verdict(world, &who) == CAD_OK && who == -1);
    for (int planted = 0; planted < size; planted++) {
        bool mine = rank == planted;
        cad_status status = cad_comm_agree(world, mine ? cad_fail(CAD_EMODEL, "planted on %d", rank) : CAD_OK);
        CHECK(status == (mine ? CAD_EMODEL : CAD_EPEER));
        CHECK(cad_comm_verdict(world, &who) == CAD_EMODEL && who == planted);
        CHECK(mine ? !strncmp(cad_reason(), "planted", 7) : strstr(cad_reason(), "has the reason") != NULL);
        CHECK(cad_comm_agree(world, status) == status); /* said again on the way up: nothing changes */
        CHECK(cad_comm_verdict(world, &who) == (size > 1 ? CAD_EMODEL : status) && who == planted);
        cad_clear();
    }
    cad_status mine = rank == 0 && size > 1 ? CAD_EPEER : rank < size - 2 ? CAD_OK : (cad_status)(CAD_EDATA + rank - size + 2);
    CHECK(cad_comm_agree(world, mine) == (mine ? mine : CAD_EPEER));
    CHECK(cad_comm_verdict(world, &who) == (size > 2 ? CAD_EDATA : CAD_EMODEL) && who == (size > 2 ? size - 2 : size - 1));
    cad_clear();
    CHECK_OK(cad_comm_agree(world, CAD_OK));
}

static void every_transfer(void)
{
    static const cad_num types[] = {CAD_NUM_U8, CAD_NUM_I32, CAD_NUM_I64, CAD_NUM_F32, CAD_NUM_F64, CAD_NUM_BF16};

    for (int i = 0; i < 6; i++) {
        gathered_parts_are_everywhere(types[i], LONGEST, false);
        gathered_parts_are_everywhere(types[i], 777, true);
        gathered_parts_are_everywhere(types[i], 0, true);
        if (types[i] != CAD_NUM_BF16) reductions_are_exact(types[i]);
    }
    for (int n = 0; n < 3; n++) {
        scattered_sums_are_exact(CAD_NUM_I64, (int64_t[]){LONGEST, 777, 0}[n], n > 0);
        scattered_sums_are_exact(CAD_NUM_F32, (int64_t[]){LONGEST, 777, 0}[n], n > 0);
    }
    float_sums_are_in_rank_order();
    many_are_in_flight_at_once();
    messages_arrive_with_their_length(4200);
    messages_arrive_with_their_length(0);
    bytes_are_broadcast_and_collected(LONGEST);
    bytes_are_broadcast_and_collected(0);
}

int main(void)
{
    CHECK_OK(cad_comm_open(&world, "mpi"));
    rank = cad_comm_rank(world);
    size = cad_comm_size(world);
    CHECK(cad_comm_nodes(world) == 1 && cad_comm_local_rank(world) == rank && cad_comm_local_size(world) == size);
    CHECK(!strncmp(cad_comm_library(world), "Open MPI v", 10) && !cad_comm_pretends(world));
    every_transfer();
    a_nan_survives_the_maximum();
    a_transfer_too_many_is_refused();
    a_message_longer_than_its_room_is_an_error();
    a_failure_on_any_rank_is_everybodys();
    world->piece_bytes = 256; /* as if the data were longer than MPI can count */
    every_transfer();
    world->piece_bytes = 1001; /* no multiple of any element */
    every_transfer();
    CHECK_OK(cad_comm_barrier(world));
    cad_comm_close(&world);
    CHECK(!world && cad_mem_blocks() == 0);
    return 0;
}
