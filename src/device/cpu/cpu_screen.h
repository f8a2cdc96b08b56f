/* A screen of a matrix: its rows as whole numbers, and what a product with one vector says of them (cpu_screen.c, cpu_screen_dots.c). */
#ifndef CADP_CPU_SCREEN_H
#define CADP_CPU_SCREEN_H
#include "cpu_priv.h"

/* 6 bits: codes q + 32 of |q| <= 31, runs of 128 in 96 bytes. The lower four bits of code j lie in byte j % 64, those of the second 64 in its upper half; the upper two bits in byte
 * 64 + j % 32, the codes 32 apart from the lowest bits up. 8 bits: int8. */
enum { CADP_SCREEN_RUN = 128, CADP_SIX_BYTES = 96, CADP_SIX_TOP = 31, CADP_SCREEN_ABREAST = 4 };
void cadp_six_pack(const uint8_t *codes, uint8_t *to);

/* Four rows, each a stream of its own to the processor, times the words; high: of each word the upper byte, and behind those the lower ones, both signed; sum: of all words.
 * 31 * 32639 * 2048, the most that a product of 6 bits can be, is below 2^31. */
void cadp_screen_dots(const cadp_screen *s, const uint8_t *const *rows, int64_t *out);
/* The same by the instructions of every processor. */
void cadp_screen_dots_plain(const cadp_screen *s, const uint8_t *const *rows, int64_t *out);
#endif
