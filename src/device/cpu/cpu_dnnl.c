#include "cpu_priv.h"

#include <dnnl.h>
#include <omp.h>

/* oneDNN asks OpenMP how many threads there are; the answer is the calling thread's own setting, gone at the end of the region. */
void cadp_cpu_alone(void) { omp_set_num_threads(1); }

static void scale(int64_t m, int64_t n, float beta, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
}

void cadp_sgemm(int64_t m, int64_t n, int64_t k, float alpha, cadp_factor a, cadp_factor b, float beta, float *c, int64_t ldc)
{
    dnnl_status_t status;
    int64_t lda = cad_max(a.ld, a.turned ? m : k), ldb = cad_max(b.ld, b.turned ? k : n); /* the ld of a single row may be anything */

    if (!k) {
        scale(m, n, beta, c, ldc);
        return;
    }
    status = dnnl_sgemm(a.turned ? 'T' : 'N', b.turned ? 'T' : 'N', m, n, k, alpha, a.data, lda, b.data, ldb, beta, c, cad_max(ldc, n));
    CAD_ASSERT(status == dnnl_success);
}
