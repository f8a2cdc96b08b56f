/* Where answers stand in the text of a conversation. Most templates write a turn as they wrote it before the next one came: then the first messages alone, ready for the answer,
 * make the beginning of the text. Some write earlier turns in other words (without what was thought, with a system's words further down): then what stands behind a message's
 * own words is compared, and those are found by a character put behind them that the text does not have. */
#include "train_priv.h"

static cad_node *message(cad_tree *v, int64_t i)
{
    cad_node *m = cad_get(v->root, "messages") ? v->root->child : NULL;

    while (m && strcmp(m->key, "messages")) m = m->next;
    for (m = m ? m->child : NULL; m && i > 0; i--) m = m->next;
    return m;
}

static cad_node *entry(cad_node *table, const char *key)
{
    cad_node *n = table && table->kind == CAD_TABLE ? table->child : NULL;

    while (n && strcmp(n->key, key)) n = n->next;
    return n;
}

/* The words of message i, or the last of its parts that are words; NULL: it has none. */
static cad_node *words_of(cad_tree *v, int64_t i)
{
    cad_node *content = i < 0 ? NULL : entry(message(v, i), "content"), *found = NULL;

    if (content && content->kind == CAD_STRING) return content;
    for (cad_node *part = content && content->kind == CAD_LIST ? content->child : NULL; part; part = part->next) {
        cad_node *text = entry(part, "text");
        if (text && text->kind == CAD_STRING) found = text;
    }
    return found;
}

/* A private-use character that the text does not have. */
static const char *foreign(const cad_str *text)
{
    static const char *const all[] = {"\xee\x80\x80", "\xee\x80\x81", "\xee\x80\x82", "\xee\x80\x83"};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!text->size || !memmem(text->data, text->size, all[i], 3)) return all[i];
    return NULL;
}

/* The text with `mark` behind message i's words, or in their place; *at: bytes before it, SIZE_MAX where it does not stand there once. */
static cad_status with_mark(const cadp_chat_source *s, cad_tree *v, int64_t first, bool ask, int64_t i, const char *mark, bool alone, cad_str *out, size_t *at)
{
    cad_node *words = words_of(v, i), old;
    cad_str text = {0};
    const char *found;
    cad_status status;

    *at = SIZE_MAX;
    if (!words || !mark) return CAD_OK;
    old = *words;
    status = alone ? CAD_OK : cad_str_add(&text, old.text, old.size);
    if (!status) status = cad_str_add(&text, mark, 3);
    if (!status) {
        words->text = text.data;
        words->size = text.size;
        status = cadp_chat_render(s, v, first, ask, out, NULL);
        words->text = old.text;
        words->size = old.size;
    }
    cad_str_close(&text);
    if (status || !out->size || !(found = memmem(out->data, out->size, mark, 3))) return status;
    if (!memmem(found + 3, out->size - 3 - (size_t)(found - out->data), mark, 3)) *at = (size_t)(found - out->data);
    return CAD_OK;
}

/* Whether a text is `plain` and no more than a mark, and white space before it, stands in it; *end: bytes of plain before those. */
static bool is_plain_with_mark(const cad_str *plain, const cad_str *marked, size_t at, size_t *end)
{
    size_t behind = marked->size - at - 3;

    if (behind > plain->size || memcmp(plain->data + plain->size - behind, marked->data + at + 3, behind)) return false;
    *end = plain->size - behind;
    if (*end > at || memcmp(plain->data, marked->data, *end)) return false;
    for (size_t k = *end; k < at; k++)
        if (!memchr(" \t\n\r\v\f", marked->data[k], 6)) return false;
    return true;
}

/* Bytes of `text`, which the first messages make, up to the end of message i's words; SIZE_MAX: not known. */
static cad_status words_end(const cadp_chat_source *s, cad_tree *v, int64_t first, bool ask, int64_t i, const cad_str *text, size_t *end)
{
    cad_str marked = {0};
    size_t at, found;
    cad_status status = with_mark(s, v, first, ask, i, foreign(text), false, &marked, &at);

    *end = !status && at != SIZE_MAX && text->size && is_plain_with_mark(text, &marked, at, &found) ? found : SIZE_MAX;
    cad_str_close(&marked);
    return status;
}

/* What the first messages alone make behind message i's words stands behind them in the whole text too: up to its end. */
static cad_status behind_words(const cadp_chat_source *s, cad_tree *v, int64_t first, bool ask, int64_t i, const cad_str *alone, const cad_str *whole, size_t *to)
{
    size_t here, there;

    *to = SIZE_MAX;
    CAD_TRY(words_end(s, v, first, ask, i, alone, &here));
    if (here == SIZE_MAX) return CAD_OK;
    CAD_TRY(words_end(s, v, INT64_MAX, false, i, whole, &there));
    if (there != SIZE_MAX && alone->size - here <= whole->size - there && !memcmp(alone->data + here, whole->data + there, alone->size - here)) *to = there + alone->size - here;
    return CAD_OK;
}

/* Where the first messages make the beginning of the text: their size; else by the words of message i. */
static cad_status place(const cadp_chat_source *s, cad_tree *v, int64_t first, bool ask, int64_t i, const cad_str *whole, size_t *at)
{
    cad_str alone = {0};
    cad_status status = cadp_chat_render(s, v, first, ask, &alone, NULL);

    *at = SIZE_MAX;
    if (!status && alone.size <= whole->size && (!alone.size || !memcmp(alone.data, whole->data, alone.size))) *at = alone.size;
    else if (!status) status = behind_words(s, v, first, ask, i, &alone, whole, at);
    cad_str_close(&alone);
    return status;
}

cad_status cadp_answer_begins(const cadp_chat_source *s, cad_tree *v, int64_t i, const cad_str *whole, size_t *from)
{
    cad_str other = {0};
    size_t at;
    cad_status status;

    *from = SIZE_MAX;
    if (i > 0) CAD_TRY(place(s, v, i, true, i - 1, whole, from));
    if (*from != SIZE_MAX) return CAD_OK;
    status = with_mark(s, v, INT64_MAX, false, i, foreign(whole), true, &other, &at); /* what stands before another answer */
    if (!status && at <= whole->size && !memcmp(whole->data, other.data, at)) *from = at;
    cad_str_close(&other);
    return status;
}

cad_status cadp_answer_ends(const cadp_chat_source *s, cad_tree *v, int64_t i, const cad_str *whole, size_t *to)
{
    return place(s, v, i + 1, false, i, whole, to);
}
