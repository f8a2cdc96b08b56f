#include "sink_priv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* TensorBoard's file is TFRecords of the protobuf message Event: wall_time = 1, step = 2, file_version = 3, summary = 5
 * {value = 1 {tag = 1, simple_value = 2}}, session_log = 7 {status = 1}. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5, SESSION_START = 1 };

static cad_status add_le(cad_str *out, uint64_t x, size_t bytes)
{
    unsigned char b[8];

    for (size_t i = 0; i < bytes; i++) b[i] = (unsigned char)(x >> 8 * i);
    return cad_str_add(out, b, bytes);
}

static cad_status add_varint(cad_str *out, uint64_t x)
{
    for (; x >= 0x80; x >>= 7) CAD_TRY(add_le(out, (x & 0x7f) | 0x80, 1));
    return add_le(out, x, 1);
}

static cad_status add_tag(cad_str *out, unsigned field, unsigned wire) { return add_varint(out, field << 3 | wire); }

static cad_status add_bytes(cad_str *out, unsigned field, const void *bytes, size_t n)
{
    CAD_TRY(add_tag(out, field, BYTES));
    CAD_TRY(add_varint(out, n));
    return cad_str_add(out, bytes, n);
}

static cad_status begin_event(cad_str *out, int64_t step)
{
    struct timespec now;
    double seconds;
    uint64_t bits;

    clock_gettime(CLOCK_REALTIME, &now);
    seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    memcpy(&bits, &seconds, sizeof bits);
    CAD_TRY(add_tag(out, 1, FIXED64));
    CAD_TRY(add_le(out, bits, 8));
    CAD_TRY(add_tag(out, 2, VARINT));
    return add_varint(out, (uint64_t)step);
}

static uint32_t masked_crc(const void *bytes, size_t n)
{
    uint32_t c = cad_crc32c(0, bytes, n);

    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static cad_status frame(cad_str *out, const cad_str *event)
{
    CAD_TRY(add_le(out, event->size, 8));
    CAD_TRY(add_le(out, masked_crc(out->data, 8), 4));
    CAD_TRY(cad_str_add(out, event->data, event->size));
    return add_le(out, masked_crc(event->data, event->size), 4);
}

static cad_status write_record(cadp_events *s, const cad_str *event)
{
    cad_str record = {0};
    cad_status status = frame(&record, event);

    if (!status && !cadp_write_all(s->fd, record.data, record.size))
        status = cad_fail(CAD_ERESOURCE, "TensorBoard events: cannot write: %s", strerror(errno));
    cad_str_close(&record);
    return status;
}

static cad_status write_version(cadp_events *s)
{
    static const char version[] = "brain.Event:2";
    cad_str event = {0};
    cad_status status = begin_event(&event, 0);

    if (!status) status = add_bytes(&event, 3, version, sizeof version - 1);
    if (!status) status = write_record(s, &event);
    cad_str_close(&event);
    return status;
}

/* A session that starts at `step` makes TensorBoard forget what earlier files of the folder say from there on. */
static cad_status write_restart(cadp_events *s, int64_t step)
{
    cad_str event = {0};
    const unsigned char start[] = {1 << 3 | VARINT, SESSION_START};
    cad_status status = begin_event(&event, step);

    if (!status) status = add_bytes(&event, 7, start, sizeof start);
    if (!status) status = write_record(s, &event);
    cad_str_close(&event);
    return status;
}

static cad_status add_value(cad_str *summary, const cad_number *x)
{
    cad_str value = {0}, tag = {0};
    bool eval = !strncmp(x->name, "eval_", 5);
    float narrow = (float)x->value;
    uint32_t bits;
    cad_status status;

    memcpy(&bits, &narrow, sizeof bits);
    if ((status = cad_str_addf(&tag, "%s/%s", eval ? "eval" : "train", eval ? x->name + 5 : x->name))) goto done;
    if ((status = add_bytes(&value, 1, tag.data, tag.size))) goto done;
    if ((status = add_tag(&value, 2, FIXED32))) goto done;
    if ((status = add_le(&value, bits, 4))) goto done;
    status = add_bytes(summary, 1, value.data, value.size);
done:
    cad_str_close(&tag);
    cad_str_close(&value);
    return status;
}

cad_status cadp_events_row(cadp_events *s, int64_t step, const cad_number *numbers, int count)
{
    cad_str event = {0}, summary = {0};
    cad_status status = begin_event(&event, step);

    for (int i = 0; i < count && !status; i++)
        if (strcmp(numbers[i].name, "step") != 0) status = add_value(&summary, &numbers[i]);
    if (!status && summary.size) status = add_bytes(&event, 5, summary.data, summary.size);
    if (!status && summary.size) status = write_record(s, &event);
    cad_str_close(&summary);
    cad_str_close(&event);
    return status;
}

static void host_name(char out[64])
{
    if (gethostname(out, 64)) snprintf(out, 64, "host");
    out[63] = 0;
    for (char *c = out; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '.' && *c != '-') *c = '-';
}

/* A resumed run goes on in the run folder that was written last. */
static cad_status latest_run(char **out, const char *runs)
{
    DIR *d = opendir(runs);
    struct timespec best = {0, 0};
    cad_status status = CAD_OK;

    *out = NULL;
    for (struct dirent *e; d && !status && (e = readdir(d));) {
        struct stat info;
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &info, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(info.st_mode)) continue;
        if (*out && (info.st_mtim.tv_sec < best.tv_sec || (info.st_mtim.tv_sec == best.tv_sec && info.st_mtim.tv_nsec <= best.tv_nsec))) continue;
        best = info.st_mtim;
        cad_free(out);
        status = cad_path_join(out, runs, e->d_name);
    }
    if (d) closedir(d);
    return status;
}

static cad_status run_folder(char **out, const char *output_dir, bool append)
{
    char host[64], stamp[32], name[128], *runs = NULL;
    time_t now = time(NULL);
    struct tm parts;
    cad_status status = cad_path_join(&runs, output_dir, "runs");

    *out = NULL;
    if (!status && append) status = latest_run(out, runs);
    if (!status && !*out) {
        host_name(host);
        strftime(stamp, sizeof stamp, "%b%d_%H-%M-%S", localtime_r(&now, &parts));
        snprintf(name, sizeof name, "%s_%s", stamp, host);
        status = cad_path_join(out, runs, name);
    }
    cad_free(&runs);
    return status;
}

static cad_status create(cadp_events *s, const char *folder)
{
    char host[64], name[192], *path = NULL;
    long long now = (long long)time(NULL);

    host_name(host);
    for (int i = 0; i < 1000 && s->fd < 0; i++) {
        snprintf(name, sizeof name, "events.out.tfevents.%lld.%s.%ld.%d", now, host, (long)getpid(), i);
        cad_free(&path);
        CAD_TRY(cad_path_join(&path, folder, name));
        s->fd = cadp_open_log(path, O_EXCL);
        if (s->fd < 0 && errno != EEXIST) break;
    }
    cad_free(&path);
    return s->fd < 0 ? cad_fail(CAD_ERESOURCE, "%s/%s: cannot create: %s", folder, name, strerror(errno)) : CAD_OK;
}

cad_status cadp_events_open(cadp_events *s, const char *output_dir, const char *logging_dir, bool append, int64_t through)
{
    char *folder = NULL;
    cad_status status = logging_dir && *logging_dir ? cad_strdup(&folder, logging_dir) : run_folder(&folder, output_dir, append);

    if (!status) status = cad_mkdirs(folder);
    if (!status) status = create(s, folder);
    if (!status) status = write_version(s);
    if (!status && append) status = write_restart(s, through + 1);
    cad_free(&folder);
    return status;
}
