/* A grid of thread blocks on the host: blocks one after another, the threads of a block as fibers that switch at barriers and at
 * exchanges between the lanes of a warp, and nowhere else. What a kernel would get wrong on a GPU fails here too: a barrier that some
 * threads miss, a shuffle of lanes that have returned, shared memory that is read before it is written (it starts as NaN) or behind its
 * end (address sanitizer), a copy that is used before it is waited for (copies happen at the wait). */
#ifndef CADP_EMULATED_GRID_H
#define CADP_EMULATED_GRID_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { CADP_LANES = 32, CADP_MOST_THREADS = 1024, CADP_MOST_SHARED = 227 << 10, CADP_SLOT = 32 }; /* of sm_90 */
typedef struct cadp_dim { int x, y, z; } cadp_dim;
typedef struct cadp_emulator cadp_emulator;

CAD_CHECKED cad_status cadp_emulator_open(cadp_emulator **out);
void cadp_emulator_close(cadp_emulator **e);
/* Runs `body` for every thread of every block; threads: a multiple of 32. */
void cadp_emulator_run(cadp_emulator *e, cadp_dim blocks, int threads, int64_t shared_bytes, void (*body)(void *), void *with);
int64_t cadp_emulator_switches(const cadp_emulator *e);

/* ---- inside a kernel ---- */

typedef struct cadp_place { int thread, threads; cadp_dim block, blocks; void *shared; } cadp_place;
extern __thread cadp_place *cadp_here; /* the thread that runs */

void cadp_block_barrier(void);
void cadp_warp_barrier(void);
/* Each lane of the warp brings up to CADP_SLOT bytes and receives what all of them brought: CADP_SLOT bytes a lane. */
const unsigned char *cadp_exchange(const void *mine, int bytes);
/* As cp.async: happens when waited for. from NULL: zeros. */
void cadp_copy_later(void *to, const void *from, int bytes);
void cadp_copy_commit(void);
void cadp_copy_wait(int groups); /* until at most so many groups are under way */

#ifdef __cplusplus
}
#endif
#endif
