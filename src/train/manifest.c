/* manifest.json of a checkpoint: digest and size of each file. Reading checks all of it before any other reader sees a byte. */
#include "keep_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char form[] = "cadtrain-checkpoint-1";
typedef struct entry { char *name; int64_t size; char digest[65]; } entry;
typedef struct listing { entry *file; int count, room; } listing;

static void close_listing(listing *l)
{
    for (int i = 0; i < l->count; i++) cad_free(&l->file[i].name);
    cad_free(&l->file);
    l->count = 0;
}

static cad_status add_name(listing *l, const char *name)
{
    if (l->count == l->room) {
        CAD_TRY(cad_grow(&l->file, (size_t)l->room + 16, sizeof *l->file, "a manifest"));
        l->room += 16;
    }
    l->file[l->count] = (entry){0};
    CAD_TRY(cad_strdup(&l->file[l->count].name, name));
    l->count++;
    return CAD_OK;
}

static int by_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static cad_status list_files(listing *l, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    cad_status status = CAD_OK;

    if (!d) return cad_fail(CAD_ERESOURCE, "%s: cannot list: %s", dir, strerror(errno));
    while (!status && (e = readdir(d)))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && strcmp(e->d_name, "manifest.json")) status = add_name(l, e->d_name);
    closedir(d);
    if (!status) qsort(l->file, (size_t)l->count, sizeof *l->file, by_name);
    return status;
}

static cad_status trouble(const char *path, cad_status kind) { return cad_fail(kind, "%s: cannot read: %s", path, strerror(errno)); }

/* A link could name a file outside the checkpoint, a pipe could wait for ever. */
static cad_status open_plain(int *fd, struct stat *st, const char *path, cad_status kind)
{
    do *fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    while (*fd < 0 && errno == EINTR);
    if (*fd < 0) return cad_fail(kind, "%s: cannot open: %s", path, strerror(errno));
    if (!fstat(*fd, st) && S_ISREG(st->st_mode)) return CAD_OK;
    close(*fd);
    return cad_fail(kind, "%s: expected a regular file", path);
}

static cad_status digest_open(int fd, const char *path, entry *e, cad_status kind)
{
    enum { PIECE = 1 << 16 };
    cad_sha256 s;
    char *piece;
    cad_status status = CAD_OK;

    CAD_TRY(cad_alloc(&piece, PIECE, 1, "a piece of a file"));
    cad_sha256_begin(&s);
    for (e->size = 0; !status;) {
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = trouble(path, kind);
        if (n <= 0) break;
        cad_sha256_add(&s, piece, (size_t)n);
        e->size += n;
        if (e->size % (PIECE * 1024) == 0) cad_watchdog_beat("digesting a checkpoint", e->size >> 20);
    }
    cad_sha256_end(&s, e->digest);
    cad_free(&piece);
    return status;
}

static cad_status digest_file(const char *dir, entry *e, cad_status kind)
{
    cad_str path = {0};
    struct stat st;
    int fd;
    cad_status status = cadp_join(&path, dir, e->name);

    if (!status && !(status = open_plain(&fd, &st, path.data, kind))) {
        status = digest_open(fd, path.data, e, kind);
        close(fd);
    }
    cad_str_close(&path);
    return status;
}

static cad_status put_listing(cad_json *j, const listing *l)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "format", form));
    CAD_TRY(cad_json_begin(j, "files", '{'));
    for (int i = 0; i < l->count; i++) {
        CAD_TRY(cad_json_begin(j, l->file[i].name, '{'));
        CAD_TRY(cad_json_int(j, "size", l->file[i].size));
        CAD_TRY(cad_json_string(j, "sha256", l->file[i].digest));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

static cad_status write_listing(const char *dir, const listing *l)
{
    cad_json j = {.pretty = true};
    cad_str path = {0};
    cad_status status = put_listing(&j, l);

    if (!status) status = cadp_join(&path, dir, "manifest.json");
    if (!status) status = cad_write_file(path.data, j.text.data, j.text.size);
    cad_str_close(&path);
    cad_json_close(&j);
    return status;
}

cad_status cadp_manifest_write(const char *dir)
{
    listing l = {0};
    cad_status status = list_files(&l, dir);

    for (int i = 0; i < l.count && !status; i++) status = digest_file(dir, &l.file[i], CAD_ERESOURCE);
    if (!status) status = write_listing(dir, &l);
    close_listing(&l);
    return status;
}

/* ---- reading ---- */

static bool is_digest(const char *s) { return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64; }

static bool is_plain_name(const char *name) { return *name && name[0] != '.' && !strchr(name, '/'); }

static cad_status read_entries(listing *l, const cad_node *root, const char *path)
{
    const cad_node *files = cad_get(root, "files");
    const char *found, *digest;

    if (!cad_get_string(root, "format", &found, "") || strcmp(found, form)) return cad_fail(CAD_ECHECKPOINT, "%s: expected \"format\": \"%s\"", path, form);
    if (!files || files->kind != CAD_TABLE) return cad_fail(CAD_ECHECKPOINT, "%s: expected a table \"files\"", path);
    for (const cad_node *n = files->child; n; n = n->next) {
        if (!is_plain_name(n->key)) return cad_fail(CAD_ECHECKPOINT, "%s:%d:%d: expected the name of a file in this folder", path, n->key_line, n->key_column);
        CAD_TRY(add_name(l, n->key));
        if (!cad_get_int(n, "size", &l->file[l->count - 1].size, -1) || l->file[l->count - 1].size < 0 || !cad_get_string(n, "sha256", &digest, NULL) || !is_digest(digest))
            return cad_fail(CAD_ECHECKPOINT, "%s:%d:%d: expected a size and 64 hexadecimal digits", path, n->line, n->column);
        memcpy(l->file[l->count - 1].digest, digest, 65);
    }
    return CAD_OK;
}

/* Written again it must be the same bytes: so no byte of the manifest itself can change unseen. */
static cad_status check_spelling(const listing *l, const char *text, size_t n, const char *path)
{
    cad_json j = {.pretty = true};
    cad_status status = put_listing(&j, l);

    if (!status && (j.text.size != n || memcmp(j.text.data, text, n))) status = cad_fail(CAD_ECHECKPOINT, "%s: is not as it was written", path);
    cad_json_close(&j);
    return status;
}

static cad_status read_listing(listing *l, const char *dir)
{
    cad_str path = {0};
    char *text = NULL;
    size_t n = 0;
    cad_tree *tree = NULL;
    cad_status status = cadp_join(&path, dir, "manifest.json");

    if (!status) status = cad_read_file(&text, &n, path.data, 1 << 20, CAD_ECHECKPOINT);
    if (!status) status = cad_json_parse(&tree, text, n, path.data, CAD_ECHECKPOINT);
    if (!status) status = read_entries(l, tree->root, path.data);
    if (!status) status = check_spelling(l, text, n, path.data);
    cad_tree_close(&tree);
    cad_free(&text);
    cad_str_close(&path);
    return status;
}

static cad_status check_file(const char *dir, const entry *e)
{
    entry now = {.name = e->name};

    CAD_TRY(digest_file(dir, &now, CAD_ECHECKPOINT));
    if (now.size != e->size) return cad_fail(CAD_ECHECKPOINT, "%s/%s: expected %lld bytes, found %lld", dir, e->name, (long long)e->size, (long long)now.size);
    if (strcmp(now.digest, e->digest)) return cad_fail(CAD_ECHECKPOINT, "%s/%s: is damaged: expected SHA-256 %.12s…, found %.12s…", dir, e->name, e->digest, now.digest);
    return CAD_OK;
}

cad_status cadp_manifest_verify(const char *dir)
{
    listing l = {0};
    cad_status status = read_listing(&l, dir);

    for (int i = 0; i < l.count && !status; i++) status = check_file(dir, &l.file[i]);
    close_listing(&l);
    return status;
}
