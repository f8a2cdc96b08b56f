#include "cpu_priv.h"

#include <omp.h>

/* Teams of one and of all threads only: libgomp ends threads when a team shrinks. */
void cadp_cpu_each(const cad_device *d, int64_t n, cadp_tile *tile, const void *args, void *work, int64_t each)
{
    int threads = n > 1 ? d->threads : 1;

#pragma omp parallel num_threads(threads)
    {
        char *own = work ? (char *)work + omp_get_thread_num() * each : NULL;

        cadp_cpu_alone();
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++) tile(args, i, own);
    }
}

cadp_grid cadp_grid_of(int64_t rows, int64_t cols)
{
    cadp_grid g = {.rows = rows, .cols = cols, .width = cad_max(1, cad_min(cols, CADP_RECT))};

    g.height = cad_max(1, CADP_RECT / g.width);
    g.across = cad_ceil_div(cols, g.width);
    g.n = cad_ceil_div(rows, g.height) * g.across;
    return g;
}

cadp_rect cadp_rect_of(const cadp_grid *g, int64_t i)
{
    int64_t row = i / g->across * g->height, col = i % g->across * g->width;

    return (cadp_rect){row, cad_min(g->rows, row + g->height), col, cad_min(g->cols, col + g->width)};
}
