/* Speed of the tokenizer: tokenizer DIR FILE [TIMES [THREADS]] (10, 1) prints one JSON object. FILE: a JSON array of texts (or of {"text"}), or JSONL. */
#include <cadtrain/format.h>
#include <cadtrain/text.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct texts { cad_tree **tree; const char **text; size_t *size; int64_t count, trees, bytes; } texts;

static cad_status add_text(texts *t, const cad_node *n)
{
    const cad_node *text = n->kind == CAD_TABLE ? cad_get(n, "text") : n;

    if (!text || text->kind != CAD_STRING) return cad_fail(CAD_EDATA, "line %d: expected a text", n->line);
    t->text[t->count] = text->text;
    t->size[t->count++] = text->size;
    t->bytes += (int64_t)text->size;
    return CAD_OK;
}

static cad_status take(texts *t, const char *text, size_t n, const char *path)
{
    cad_tree *tree;

    CAD_TRY(cad_json_parse(&tree, text, n, path, CAD_EDATA));
    t->tree[t->trees++] = tree;
    if (tree->root->kind != CAD_LIST) return add_text(t, tree->root);
    for (const cad_node *i = tree->root->child; i; i = i->next) CAD_TRY(add_text(t, i));
    return CAD_OK;
}

static cad_status read_texts(texts *t, const char *path, char **bytes)
{
    size_t size, most;

    CAD_TRY(cad_read_file(bytes, &size, path, (size_t)1 << 30, CAD_EDATA));
    most = size / 2 + 2;
    CAD_TRY(cad_alloc(&t->tree, most, sizeof *t->tree, "texts"));
    CAD_TRY(cad_alloc(&t->text, most, sizeof *t->text, "texts"));
    CAD_TRY(cad_alloc(&t->size, most, sizeof *t->size, "texts"));
    if (**bytes == '[') return take(t, *bytes, size, path);
    for (char *line = *bytes, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end) return take(t, line, strlen(line), path);
        CAD_TRY(take(t, line, (size_t)(end - line), path));
    }
    return CAD_OK;
}

static cad_status measure(const char *dir, const texts *t, int times, int threads)
{
    cad_tokenizer *tokenizer;
    cad_ids ids = {0};
    int64_t *starts, tokens = 0;
    double start = cad_now(), load, best = 1e300, first = 0;
    cad_status status;

    CAD_TRY(cad_tokenizer_open(&tokenizer, dir));
    load = cad_now() - start;
    status = cad_alloc(&starts, (size_t)t->count + 1, sizeof *starts, "texts");
    for (int i = 0; !status && i < times; ++i) {
        ids.count = 0;
        start = cad_now();
        status = cad_tokenizer_encode_all(tokenizer, t->text, t->size, t->count, 0, true, threads, &ids, starts, NULL, NULL, NULL);
        start = cad_now() - start;
        if (i == 0) first = start;
        if (start < best) best = start;
        tokens = ids.count;
    }
    if (!status)
        printf("{\"texts\": %lld, \"bytes\": %lld, \"tokens\": %lld, \"load_s\": %.3f, \"first_mb_per_s\": %.2f, \"best_mb_per_s\": %.2f}\n",
               (long long)t->count, (long long)t->bytes, (long long)tokens, load, (double)t->bytes / first / 1e6, (double)t->bytes / best / 1e6);
    cad_free(&starts);
    cad_free(&ids.data);
    cad_tokenizer_close(&tokenizer);
    return status;
}

int main(int argc, char **argv)
{
    texts t = {0};
    char *bytes = NULL;
    cad_status status;

    if (argc < 3) {
        fprintf(stderr, "usage: tokenizer DIR FILE [TIMES [THREADS]]\n");
        return CAD_EUSAGE;
    }
    status = read_texts(&t, argv[2], &bytes);
    if (!status) status = measure(argv[1], &t, argc > 3 ? atoi(argv[3]) : 10, argc > 4 ? atoi(argv[4]) : 1);
    if (status) cad_print_failure();
    for (int64_t i = 0; i < t.trees; ++i) cad_tree_close(&t.tree[i]);
    cad_free(&t.tree);
    cad_free(&t.text);
    cad_free(&t.size);
    cad_free(&bytes);
    return (int)status;
}
