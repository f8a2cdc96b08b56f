/* Kernels on the host: every function of the device, by fibers (emulated_grid.h). */
#ifndef CADP_EMULATED_API_H
#define CADP_EMULATED_API_H
#include "emulated_rt.h"

#define KERNEL(threads, blocks) static void
#define ON_DEVICE static inline
#define SHARED(type, name) type *name = (type *)cadp_here->shared

ON_DEVICE int here_thread(void) { return cadp_here->thread; }
ON_DEVICE int here_threads(void) { return cadp_here->threads; }
ON_DEVICE int here_lane(void) { return cadp_here->thread % 32; }
ON_DEVICE int here_warp(void) { return cadp_here->thread / 32; }
ON_DEVICE cadp_dim here_block(void) { return cadp_here->block; }
ON_DEVICE cadp_dim here_blocks(void) { return cadp_here->blocks; }
ON_DEVICE void block_barrier(void) { cadp_block_barrier(); }
ON_DEVICE void warp_barrier(void) { cadp_warp_barrier(); }

template <class T> ON_DEVICE T shuffle_xor(T v, int mask)
{
    const unsigned char *all = cadp_exchange(&v, sizeof v);

    memcpy(&v, all + (here_lane() ^ mask) * CADP_SLOT, sizeof v);
    return v;
}
template <class T> ON_DEVICE T shuffle_from(T v, int lane)
{
    const unsigned char *all = cadp_exchange(&v, sizeof v);

    memcpy(&v, all + lane * CADP_SLOT, sizeof v);
    return v;
}
ON_DEVICE uint32_t vote(bool holds)
{
    const unsigned char *all = cadp_exchange(&holds, sizeof holds);
    uint32_t bits = 0;

    for (int i = 0; i < 32; i++) bits |= (uint32_t)all[i * CADP_SLOT] << i;
    return bits;
}
ON_DEVICE int lowest_bit(uint32_t bits) { return __builtin_ctz(bits); }

/* Two floats as bf16, to nearest, ties to even; `low` in the low half. */
ON_DEVICE uint32_t pack_bf16(float low, float high) { return (uint32_t)cad_f32_to_bf16(low) | (uint32_t)cad_f32_to_bf16(high) << 16; }
ON_DEVICE int64_t to_int64(double v) { return (int64_t)rint(v); }
ON_DEVICE float two_to(float x) { return exp2f(x); }
ON_DEVICE float log_two(float x) { return log2f(x); }

/* 16 bytes (or 4: copy4) from global to shared memory, behind the computation; zeros unless `take`. */
ON_DEVICE void copy16(void *to, const void *from, bool take)
{
    CAD_ASSERT((uintptr_t)to % 16 == 0 && (uintptr_t)from % 16 == 0);
    cadp_copy_later(to, take ? from : NULL, 16);
}
ON_DEVICE void copy4(void *to, const void *from, bool take) { cadp_copy_later(to, take ? from : NULL, 4); }
ON_DEVICE void copy_commit(void) { cadp_copy_commit(); }
template <int groups> ON_DEVICE void copy_wait(void) { cadp_copy_wait(groups); }

/* ldmatrix.x4: four 8 x 8 matrices of 16 bits, whose rows lie where the lanes 8 i to 8 i + 7 say. Lane l receives of matrix i the elements
 * (l / 4, 2 (l % 4)) and the next; turned: of its transpose. */
ON_DEVICE void load_matrices(uint32_t out[4], const void *row, bool turned)
{
    const unsigned char *all = cadp_exchange(&row, sizeof row);
    int major = here_lane() / 4, minor = 2 * (here_lane() % 4);

    for (int i = 0; i < 4; i++)
        for (int half = 0; half < 2; half++) {
            const uint16_t *p;
            uint16_t v;
            memcpy(&p, all + (8 * i + (turned ? minor + half : major)) * CADP_SLOT, sizeof p);
            CAD_ASSERT((uintptr_t)p % 16 == 0);
            v = p[turned ? major : minor + half];
            out[i] = half ? out[i] | (uint32_t)v << 16 : v;
        }
    warp_barrier(); /* rows may be overwritten from here on */
}

/* mma.sync.m16n8k16, row.col, bf16 into fp32 (PTX ISA, "Matrix fragments for mma.m16n8k16"). With g = lane / 4, t = 2 (lane % 4):
 * a[0] = A(g, t..t+1), a[1] = A(g + 8, t..), a[2] = A(g, t + 8..), a[3] = A(g + 8, t + 8..); b[0] = B(t..t+1, g), b[1] = B(t + 8.., g);
 * c[0..1] = C(g, t..t+1), c[2..3] = C(g + 8, t..t+1). */
__attribute__((no_sanitize("address", "undefined"))) ON_DEVICE void multiply_add(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1}, other[6];
    const unsigned char *all = cadp_exchange(mine, sizeof mine);
    int g = here_lane() / 4, t = 2 * (here_lane() % 4);
    float rows[2][16], cols[2][16];

    for (int i = 0; i < 4; i++) { /* lanes of one row of A, and of one column of B */
        memcpy(other, all + (4 * g + i) * CADP_SLOT, sizeof other);
        for (int r = 0; r < 4; r++) {
            float *to = &rows[r % 2][2 * i + r / 2 * 8];
            uint32_t low = other[r] << 16, high = other[r] & 0xffff0000u;
            memcpy(to, &low, 4);
            memcpy(to + 1, &high, 4);
        }
        for (int n = 0; n < 2; n++) {
            memcpy(other, all + (4 * (t + n) + i) * CADP_SLOT, sizeof other);
            for (int r = 0; r < 2; r++) {
                uint32_t low = other[4 + r] << 16, high = other[4 + r] & 0xffff0000u;
                memcpy(&cols[n][2 * i + 8 * r], &low, 4);
                memcpy(&cols[n][2 * i + 8 * r + 1], &high, 4);
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        float sum = 0;
        for (int k = 0; k < 16; k++) sum += rows[i / 2][k] * cols[i % 2][k];
        c[i] += sum;
    }
}

/* ---- launches ---- */

template <class F> static void call_body(void *f) { (*(F *)f)(); }

/* A launch that waits for its turn. */
template <class F> struct later { F body; cadp_dim blocks; int threads; int64_t shared; };
template <class F> static void take_turn(cadp_stream *s, void *with)
{
    later<F> *t = (later<F> *)with;

    cadp_emulator_run(cadp_emulator_of(s), t->blocks, t->threads, t->shared, call_body<F>, &t->body);
}

template <class... P, class... A>
static cad_status launch(cadp_stream *s, const char *what, void (*kernel)(P...), cadp_dim blocks, int threads, int64_t shared, A... args)
{
    auto body = [=] { kernel(args...); };

    later<decltype(body)> t = {body, blocks, threads, shared};

    (void)what;
    return cadp_emulated_give(s, take_turn<decltype(body)>, &t, sizeof t);
}
#endif
