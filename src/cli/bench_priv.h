#ifndef CADP_BENCH_PRIV_H
#define CADP_BENCH_PRIV_H
#include "cli_priv.h"

/* Adds "step": {…} to j. Takes memory of the device and gives it back; the device has its work space. */
CAD_CHECKED cad_status cadp_bench_step(cad_json *j, cad_device *d, cad_dtype dtype);
#endif
