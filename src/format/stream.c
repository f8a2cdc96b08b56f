/* The bytes of a file, unpacked ahead by a thread of its own: unpacking and what the caller does with the bytes go on side by side. */
#include <cadtrain/format.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { PIECES = 4, PIECE = 1 << 20 };

/* zlib passes bytes that are not packed through as they are. Pieces [taken, filled) wait for the caller, modulo PIECES. */
struct cad_stream {
    gzFile file;
    char *path, *piece[PIECES];
    size_t size[PIECES], at; /* at: of the piece being read */
    cad_status kind;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int64_t filled, taken;
    bool running, ended, failed, stop;
};

static cad_status trouble(const cad_stream *s)
{
    int code = Z_OK;
    const char *why = gzerror(s->file, &code);

    if (code == Z_BUF_ERROR) return cad_fail(s->kind, "%s: expected the end of the gz data, found the end of the file", s->path);
    if (code == Z_ERRNO) return cad_fail(s->kind, "%s: cannot read", s->path);
    if (code == Z_MEM_ERROR) return cad_fail(CAD_ERESOURCE, "%s: out of memory while unpacking", s->path);
    return cad_fail(s->kind, "%s: expected gz data, found damage (%s)", s->path, why ? why : "unknown");
}

/* A piece is short only at the end; whether that is a true end, gzerror knows. */
static size_t fill(cad_stream *s, char *to, bool *failed)
{
    size_t got = 0;
    int n = 1, code = Z_OK;

    while (got < PIECE && (n = gzread(s->file, to + got, (unsigned)(PIECE - got))) > 0) got += (size_t)n;
    if (got < PIECE) gzerror(s->file, &code);
    *failed = n < 0 || (code != Z_OK && code != Z_STREAM_END);
    return got;
}

static void *run(void *with)
{
    cad_stream *s = with;
    bool over = false;

    while (!over) {
        bool failed = false;
        size_t n;
        pthread_mutex_lock(&s->lock);
        while (s->filled - s->taken == PIECES && !s->stop) pthread_cond_wait(&s->moved, &s->lock);
        over = s->stop;
        pthread_mutex_unlock(&s->lock);
        if (over) break;
        n = fill(s, s->piece[s->filled % PIECES], &failed);
        over = failed || n < PIECE;
        pthread_mutex_lock(&s->lock);
        s->size[s->filled++ % PIECES] = n;
        s->ended = over;
        s->failed = failed;
        pthread_cond_signal(&s->moved);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

static cad_status open_file(cad_stream *s)
{
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0) return cad_fail(s->kind, "%s: cannot open: %s", s->path, strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return cad_fail(s->kind, "%s: expected a regular file, found %s", s->path, S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    s->file = gzdopen(fd, "rb");
    if (!s->file) {
        close(fd);
        return cad_fail(CAD_ERESOURCE, "%s: out of memory", s->path);
    }
    gzbuffer(s->file, 1 << 18);
    return CAD_OK;
}

static cad_status start(cad_stream *s)
{
    for (int i = 0; i < PIECES; i++) CAD_TRY(cad_alloc(&s->piece[i], PIECE, 1, "a piece of a file"));
    CAD_TRY(open_file(s));
    if (pthread_create(&s->thread, NULL, run, s)) return cad_fail(CAD_ERESOURCE, "%s: cannot start a thread to read it", s->path);
    s->running = true;
    return CAD_OK;
}

cad_status cad_stream_open(cad_stream **out, const char *path, cad_status kind)
{
    cad_stream *s = NULL;
    cad_status st;

    *out = NULL;
    CAD_TRY(cad_alloc(&s, 1, sizeof *s, "a stream"));
    s->kind = kind;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->moved, NULL);
    st = cad_strdup(&s->path, path);
    if (!st) st = start(s);
    if (st) cad_stream_close(&s);
    *out = s;
    return st;
}

/* Waits for a piece; false at the end. */
static bool wait_for_piece(cad_stream *s)
{
    bool there;

    pthread_mutex_lock(&s->lock);
    while (s->filled == s->taken && !s->ended) pthread_cond_wait(&s->moved, &s->lock);
    there = s->filled > s->taken;
    pthread_mutex_unlock(&s->lock);
    return there;
}

static void give_piece_back(cad_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->taken++;
    s->at = 0;
    pthread_cond_signal(&s->moved);
    pthread_mutex_unlock(&s->lock);
}

cad_status cad_stream_read(cad_stream *s, char *to, size_t room, size_t *got)
{
    *got = 0;
    while (*got < room) {
        if (!wait_for_piece(s)) return s->failed ? trouble(s) : CAD_OK;
        int k = (int)(s->taken % PIECES);
        size_t n = s->size[k] - s->at, want = room - *got;
        if (n > want) n = want;
        memcpy(to + *got, s->piece[k] + s->at, n);
        *got += n;
        s->at += n;
        if (s->at == s->size[k]) give_piece_back(s);
    }
    return CAD_OK;
}

void cad_stream_close(cad_stream **out)
{
    cad_stream *s = *out;

    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->moved);
    pthread_mutex_unlock(&s->lock);
    if (s->running) pthread_join(s->thread, NULL);
    if (s->file) gzclose(s->file);
    pthread_cond_destroy(&s->moved);
    pthread_mutex_destroy(&s->lock);
    for (int i = 0; i < PIECES; i++) cad_free(&s->piece[i]);
    cad_free(&s->path);
    cad_free(out);
}
