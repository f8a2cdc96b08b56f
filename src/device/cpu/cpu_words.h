/* What products by words share (cpu_words.c, cpu_word_tiles.c); they exist where cadp_has_words says so. */
#ifndef CADP_CPU_WORDS_H
#define CADP_CPU_WORDS_H
#include "cpu_math.h"
#include "cpu_priv.h"

enum { CADP_WORD_RUN = 128 };
/* 128 numbers as 64 bytes of codes meet them: word j of 32 has the terms 4 j + 1, 4 j, 4 j + 3, 4 j + 2 from its lowest four bits up. Of an odd number of blocks the last
 * lies in the upper half of a run, and zeros in the lower. */
typedef int16_t cadp_words[4][32];
/* With a scale for each lane: that of its block. */
typedef struct cadp_run { cadp_words x; float scale[16]; } cadp_run;

#if defined(__x86_64__)
#include <immintrin.h>

#define CADP_WIDE __attribute__((target("fma,avx512f,avx512bw,avx512vl,avx512dq")))
#define CADP_VNNI __attribute__((target("fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

/* A block of numbers into half a run; returns its scale. */
float cadp_put_block(cadp_words to, int half, const float *x);
/* The 16 values of a code as words, twice. */
CADP_WIDE __m512i cadp_word_book(cad_code code);
/* Scales of n blocks: where they are, or worked out in room. */
const float *cadp_block_scales(const cad_coded *q, int64_t block, int64_t n, float *room);

CADP_WIDE static inline __m512 cadp_two_scales(const float *s) { return _mm512_mask_broadcastss_ps(_mm512_set1_ps(s[0]), 0xff00, _mm_load_ss(s + 1)); }

CADP_WIDE static inline __m256 cadp_halves(__m512 x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); }

/* The sums of four vectors' lanes. */
CADP_WIDE static inline __m128 cadp_totals(const __m512 *s)
{
    __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(cadp_halves(s[0]), cadp_halves(s[1])), _mm256_hadd_ps(cadp_halves(s[2]), cadp_halves(s[3])));

    return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}
#endif
#endif
