/* Stands in for src/device/cpu until that room is there; goes when it comes. */
#include "device_priv.h"

static cad_status open_absent(cad_device *d) { return cad_fail(CAD_ERESOURCE, "this cadtrain was built without device %s", d->name); }

const cadp_device_if cadp_device_cpu = {.name = "cpu", .open = open_absent};
