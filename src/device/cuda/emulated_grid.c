#include "emulated_grid.h"

#include <stdlib.h>
#include <sys/mman.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#ifndef WATCHED
#define WATCHED 0
#endif

#if WATCHED /* sanitizer/common_interface_defs.h */
void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old, size_t *size_old);
enum { STACK = 256 << 10 };
#else
enum { STACK = 64 << 10 };
#endif

enum { WARPS = CADP_MOST_THREADS / CADP_LANES, COPIES = 256 };
typedef struct copy { void *to; const void *from; int bytes, group; } copy;

/* A thread of the block, or the host's own. `place` is first: cadp_here points to it. */
typedef struct fiber {
    cadp_place place;
    void *at; /* where it goes on: its stack pointer */
#if !defined(__x86_64__)
    ucontext_t context;
#endif
    const void *bottom;
    size_t size;
    void *fake;
    bool over;
    unsigned exchanges;
    int group, first, copies; /* of cadp_copy_later: the group that is open, and what is not yet done */
    copy copy[COPIES];
} fiber;

/* Bits of lanes: not yet returned, able to run, at a warp's barrier, at the block's. */
typedef struct warp { uint32_t alive, ready, waiting, blocked; unsigned char slot[2][CADP_LANES * CADP_SLOT]; } warp;

struct cadp_emulator {
    fiber host, fibers[CADP_MOST_THREADS];
    warp warps[WARPS];
    int n, alive, blocked;
    fiber *left; /* the fiber that was left last */
    void (*body)(void *with);
    void *with;
    char *stacks, *shared;
    int64_t shared_bytes, switches;
    bool backwards;
};

__thread cadp_place *cadp_here;
static __thread cadp_emulator *now;

/* ---- switching ---- */

#if defined(__x86_64__)
void cadp_switch_stacks(void **save, void *to);
__asm__(".text\n"
        ".globl cadp_switch_stacks\n"
        ".hidden cadp_switch_stacks\n"
        ".type cadp_switch_stacks, @function\n"
        "cadp_switch_stacks:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\n"
        "movq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\n"
        "ret\n"
        ".size cadp_switch_stacks, . - cadp_switch_stacks\n");
#endif

static void arrive(const cadp_emulator *e, const fiber *me)
{
#if WATCHED
    __sanitizer_finish_switch_fiber(me->fake, &e->left->bottom, &e->left->size);
#endif
    (void)e, (void)me;
}

static void go(cadp_emulator *e, fiber *from, fiber *to)
{
    e->switches++;
    e->left = from;
    cadp_here = &to->place;
#if WATCHED
    __sanitizer_start_switch_fiber(from->over ? NULL : &from->fake, to->bottom, to->size);
#endif
#if defined(__x86_64__)
    cadp_switch_stacks(&from->at, to->at);
#else
    swapcontext(&from->context, &to->context);
#endif
    arrive(now, from);
}

/* A lane that can run, of this warp if there is one. None, while some have not returned: they wait for each other for ever. */
static fiber *next(cadp_emulator *e, int from)
{
    for (int i = 0; i < e->n / CADP_LANES; i++) {
        int w = (from + i) % (e->n / CADP_LANES);
        uint32_t ready = e->warps[w].ready;
        int lane = !ready ? 0 : e->backwards ? 31 - __builtin_clz(ready) : __builtin_ctz(ready);
        if (!ready) continue;
        e->warps[w].ready &= ~(1u << lane);
        return &e->fibers[w * CADP_LANES + lane];
    }
    CAD_ASSERT(!e->alive && "threads of a block wait for each other at different barriers");
    return &e->host;
}

static fiber *self(void) { return (fiber *)(void *)cadp_here; }
static warp *warp_of(const fiber *f) { return &now->warps[f->place.thread / CADP_LANES]; }
static uint32_t bit(const fiber *f) { return 1u << f->place.thread % CADP_LANES; }
static void leave(fiber *f) { go(now, f, next(now, f->place.thread / CADP_LANES)); }

static void release_block(cadp_emulator *e)
{
    for (int w = 0; w < e->n / CADP_LANES; w++) {
        e->warps[w].ready |= e->warps[w].blocked;
        e->warps[w].blocked = 0;
    }
    e->blocked = 0;
}

static void run_fiber(void)
{
    cadp_emulator *e = now;
    fiber *me = self();

    me->fake = NULL;
    arrive(e, me);
    e->body(e->with);
    CAD_ASSERT(!me->copies && "a kernel ends with copies that it never waited for");
    me->over = true;
    warp_of(me)->alive &= ~bit(me);
    if (--e->alive && e->blocked == e->alive) release_block(e);
    leave(me);
    abort(); /* nobody comes back to it */
}

static void prepare(fiber *f, char *stack)
{
    f->bottom = stack;
    f->size = STACK;
    f->over = false;
    f->exchanges = 0;
    f->group = f->first = f->copies = 0;
#if defined(__x86_64__)
    void **top = (void **)(void *)(stack + STACK); /* six registers, where to begin, and where run_fiber would return to */
    memset(top - 8, 0, 8 * sizeof *top);
    top[-2] = (void *)(uintptr_t)run_fiber;
    f->at = top - 8;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, run_fiber, 0);
#endif
}

/* ---- a grid ---- */

cad_status cadp_emulator_open(cadp_emulator **out)
{
    const char *order = getenv("CADTRAIN_EMULATED_ORDER");
    cadp_emulator *e;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the emulated grid"));
    e = *out;
    e->backwards = order && !strcmp(order, "backwards");
    e->stacks = mmap(NULL, (size_t)CADP_MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (e->stacks != MAP_FAILED) return CAD_OK;
    cad_free(out);
    return cad_fail(CAD_ERESOURCE, "out of memory: the stacks of the emulated grid");
}

void cadp_emulator_close(cadp_emulator **e)
{
    if (!*e) return;
    munmap((*e)->stacks, (size_t)CADP_MOST_THREADS * STACK);
    cad_free(&(*e)->shared);
    cad_free(e);
}

int64_t cadp_emulator_switches(const cadp_emulator *e) { return e->switches; }

static void run_block(cadp_emulator *e, cadp_dim blocks, cadp_dim at)
{
    if (e->shared_bytes) memset(e->shared, 0xff, (size_t)e->shared_bytes);
    e->alive = e->n;
    e->blocked = 0;
    for (int w = 0; w < e->n / CADP_LANES; w++) {
        warp *x = &e->warps[w];
        x->alive = x->ready = UINT32_MAX;
        x->waiting = x->blocked = 0;
    }
    for (int t = 0; t < e->n; t++) {
        e->fibers[t].place = (cadp_place){t, e->n, at, blocks, e->shared};
        prepare(&e->fibers[t], e->stacks + (size_t)t * STACK);
    }
    go(e, &e->host, next(e, e->backwards ? e->n / CADP_LANES - 1 : 0));
}

void cadp_emulator_run(cadp_emulator *e, cadp_dim blocks, int threads, int64_t shared_bytes, void (*body)(void *), void *with)
{
    CAD_ASSERT(threads > 0 && threads % CADP_LANES == 0 && threads <= CADP_MOST_THREADS);
    CAD_ASSERT(blocks.x >= 0 && blocks.y >= 0 && blocks.z >= 0 && blocks.y <= 65535 && blocks.z <= 65535 && shared_bytes <= CADP_MOST_SHARED && "no GPU takes this launch");
    if (shared_bytes != e->shared_bytes) { /* exactly so large: behind it is out of bounds */
        cad_free(&e->shared);
        if (shared_bytes && cad_alloc(&e->shared, (size_t)shared_bytes, 1, "emulated shared memory")) cad_broken("memory for an emulated block", __FILE__, __LINE__);
        e->shared_bytes = shared_bytes;
    }
    e->n = threads;
    e->body = body;
    e->with = with;
    now = e;
    for (int z = 0; z < blocks.z; z++)
        for (int y = 0; y < blocks.y; y++)
            for (int x = 0; x < blocks.x; x++) run_block(e, blocks, (cadp_dim){x, y, z});
    cadp_here = NULL;
    now = NULL;
}

/* ---- inside a kernel ---- */

void cadp_block_barrier(void)
{
    fiber *me = self();

    warp_of(me)->blocked |= bit(me);
    if (++now->blocked < now->alive) {
        leave(me);
        return;
    }
    release_block(now);
    warp_of(me)->ready &= ~bit(me);
}

void cadp_warp_barrier(void)
{
    fiber *me = self();
    warp *w = warp_of(me);

    CAD_ASSERT(w->alive == UINT32_MAX && "a warp's barrier or exchange after some of its lanes returned");
    w->waiting |= bit(me);
    if (w->waiting != w->alive) {
        leave(me);
        return;
    }
    w->ready |= w->waiting & ~bit(me);
    w->waiting = 0;
}

/* Two sets of slots take turns: a lane that is one exchange ahead does not disturb those that still read. */
const unsigned char *cadp_exchange(const void *mine, int bytes)
{
    fiber *me = self();
    unsigned char *slot = warp_of(me)->slot[me->exchanges++ & 1];

    memcpy(slot + me->place.thread % CADP_LANES * CADP_SLOT, mine, (size_t)bytes);
    cadp_warp_barrier();
    return slot;
}

void cadp_copy_later(void *to, const void *from, int bytes)
{
    fiber *me = self();

    CAD_ASSERT(me->copies < COPIES);
    me->copy[(me->first + me->copies++) % COPIES] = (copy){to, from, bytes, me->group};
}

void cadp_copy_commit(void) { self()->group++; }

void cadp_copy_wait(int groups)
{
    fiber *me = self();

    while (me->copies && me->copy[me->first].group < me->group - groups) {
        const copy *c = &me->copy[me->first];
        if (c->from)
            memcpy(c->to, c->from, (size_t)c->bytes);
        else
            memset(c->to, 0, (size_t)c->bytes);
        me->first = (me->first + 1) % COPIES;
        me->copies--;
    }
}
