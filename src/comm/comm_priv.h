/* comm, inside: what the kinds share with the front doors. */
#ifndef CADTRAIN_COMM_PRIV_H
#define CADTRAIN_COMM_PRIV_H
#include <cadtrain/comm.h>

enum { CADP_LANES = 16 }; /* collectives in flight */

typedef enum cadp_use { CADP_FREE, CADP_SEND, CADP_RECEIVE, CADP_GATHER, CADP_SCATTER } cadp_use;

/* What a collective in flight needs besides its slot; kept for the next one. */
typedef struct cadp_lane { void *scratch; int64_t room; bool busy; } cadp_lane;

/* One transfer in flight. */
typedef struct cadp_slot {
    cadp_use use;
    bool done; /* needs no waiting */
    const void *in;
    void *out;
    size_t bytes, received; /* messages */
    int peer, tag;
    int64_t order;
    const int64_t *at; /* collectives */
    cad_num type;
    int lane;
} cadp_slot;

/* The doors have checked their arguments and counted. Collective functions here are only called at world size > 1, except where a
 * kind says that it is alone (then gather and scatter are `done` when they return). */
typedef struct cadp_comm_if {
    const char *name;
    bool pretends;
    void (*close)(cad_comm *c);
    void (*stop)(int code);
    cad_status (*barrier)(cad_comm *c);
    cad_status (*bcast)(cad_comm *c, void *bytes, size_t n, int root);
    cad_status (*allreduce)(cad_comm *c, void *inout, int64_t n, cad_num type, cad_reduce op);
    cad_status (*collect)(cad_comm *c, const void *mine, void *all, const int64_t *at, int root);
    cad_status (*send)(cad_comm *c, cadp_slot *s);
    cad_status (*receive)(cad_comm *c, cadp_slot *s);
    cad_status (*gather)(cad_comm *c, cadp_slot *s);
    cad_status (*scatter)(cad_comm *c, cadp_slot *s);
    cad_status (*wait)(cad_comm *c, cadp_slot *s);
    void (*progress)(cad_comm *c);
} cadp_comm_if;

struct cad_comm {
    const cadp_comm_if *does;
    int rank, size, local_rank, local_size, nodes;
    char library[64];
    size_t piece_bytes; /* the longest single transfer */
    cad_status verdict;
    int failed_rank;
    int64_t wire[CAD_WIRE_KINDS], posted;
    cadp_slot *slots;
    int slot_count;
    cadp_lane lanes[CADP_LANES];
    void *own; /* the kind's */
    void (*also)(void *with); /* with every cad_comm_progress: a second library has transfers of its own */
    void *also_with;
    void (*first)(void *with); /* before the host waits for other ranks: what it gave a queue and they wait for must not wait for them */
    void *first_with;
};

size_t cadp_num_bytes(cad_num type);
void cadp_comm_count(cad_comm *c, cad_wire kind, int64_t n, size_t each);
void cadp_comm_check_parts(const cad_comm *c, const int64_t *at);
/* The watchdog looks here at every nap: false: there is a failure that the working thread was told of. If it does not end by itself, the
 * watchdog ends the process with CAD_EINTERNAL and `words`. NULL: no longer; on return it is not being called. */
void cadp_watchdog_also(bool (*well)(void *with), void *with, const char *words);
/* A communicator without `own`; cadp_comm_delete frees it and its lanes. */
CAD_CHECKED cad_status cadp_comm_new(cad_comm **out, const cadp_comm_if *does, int rank, int size);
void cadp_comm_delete(cad_comm **c);

CAD_CHECKED cad_status cadp_self_open(cad_comm **out);
CAD_CHECKED cad_status cadp_mpi_open(cad_comm **out);
CAD_CHECKED cad_status cadp_plan_open(cad_comm **out, const char *ranks);

/* A group of one (comm_self.c), also for an MPI world of one. */
cad_status cadp_alone_barrier(cad_comm *c);
cad_status cadp_alone_bcast(cad_comm *c, void *bytes, size_t n, int root);
cad_status cadp_alone_allreduce(cad_comm *c, void *inout, int64_t n, cad_num type, cad_reduce op);
cad_status cadp_alone_collect(cad_comm *c, const void *mine, void *all, const int64_t *at, int root);
cad_status cadp_alone_send(cad_comm *c, cadp_slot *s);
cad_status cadp_alone_receive(cad_comm *c, cadp_slot *s);
cad_status cadp_alone_gather(cad_comm *c, cadp_slot *s);
cad_status cadp_alone_scatter(cad_comm *c, cadp_slot *s);
cad_status cadp_alone_wait(cad_comm *c, cadp_slot *s);
void cadp_alone_progress(cad_comm *c);
#endif
