/* What the files that keep a run share: output.c, lock.c, manifest.c, checkpoint.c, resume.c, files.c, card.c, results.c, export.c. Rank 0 unless said. */
#ifndef CADP_KEEP_PRIV_H
#define CADP_KEEP_PRIV_H
#include "train_priv.h"

/* ---- keeper.c: trainable tensors on their way to rank 0 ----
 * A failure of rank 0 to write is kept in `failed` and the rest is still collected, because every rank takes part in every piece. */
typedef struct cadp_keeper {
    cad_run *run;
    float *values;     /* rank 0: one piece */
    uint16_t *half;    /* rank 0, BF16 files: the same piece */
    cad_status failed; /* rank 0: why nothing more is written; the reason is set */
} cadp_keeper;
typedef cad_status (*cadp_piece_taker)(void *with, const cad_param *p, const float *values, int64_t n);
CAD_CHECKED cad_status cadp_keeper_open(cadp_keeper *k, cad_run *r); /* collective */
void cadp_keeper_close(cadp_keeper *k);
static inline bool cadp_keeper_writes(const cadp_keeper *k) { return !k->run->rank && !k->failed; }
/* Collective. One tensor of one kind in pieces; a status is a failure to collect, which ends all ranks. */
CAD_CHECKED cad_status cadp_collect(cadp_keeper *k, int row, cad_state what, cadp_piece_taker take, void *with);

/* ---- files.c ---- */
/* Collective; as cadp_write_model, but a failure of rank 0 stays in the keeper. */
CAD_CHECKED cad_status cadp_write_model_files(cadp_keeper *k, const char *dir);
int64_t cadp_model_bytes(const cad_run *r);
/* A parameter's name in files: Hugging Face's, the original program's where it has the own head; PEFT's for an adapter. */
CAD_CHECKED cad_status cadp_file_name(cad_str *out, const cad_method *m, const cad_param *p);
/* Everything that tokenizes, byte for byte; and the names it may have. */
CAD_CHECKED cad_status cadp_copy_tokenizer(const char *from, const char *to);
extern const char *const cadp_tokenizer_files[];
/* Copies FROM/name to TO/name if it is there. */
CAD_CHECKED cad_status cadp_copy_if_there(const char *from, const char *to, const char *name);
CAD_CHECKED cad_status cadp_join(cad_str *out, const char *dir, const char *name); /* replaces what `out` held */

/* ---- card_base.c ---- */
/* A model as others know it: ORG/NAME where it has such a name (known), else the last part of its path. */
CAD_CHECKED cad_status cadp_public_name(const char *name_or_path, cad_str *out, bool *known);
/* Lines of YAML with the licence that the card of a model's folder names; nothing where it has none. */
CAD_CHECKED cad_status cadp_base_licence(const char *model_dir, cad_str *out);

/* ---- export.c ---- */
/* As cad_export; `more` writes what else belongs into the folder before it gets its name. */
typedef cad_status (*cadp_finish)(const cad_options *o, const char *dir);
CAD_CHECKED cad_status cadp_export(const cad_options *o, const char *checkpoint, const char *output, const char *format, cad_merge merge, cadp_finish more);

/* ---- results.c ---- */
CAD_CHECKED cad_status cadp_write_run_json_to(const cad_run *r, const char *dir);
void cadp_text_digest(const char *text, char hex[65]);
/* What decides the batches: tokens and labels of the training file, and the rows trained on in their order. */
void cadp_data_digest(const cad_run *r, char hex[65]);

/* ---- manifest.c ---- */
/* DIR/manifest.json: SHA-256 and size of every other file of the folder. */
CAD_CHECKED cad_status cadp_manifest_write(const char *dir);
/* CAD_ECHECKPOINT with the file, expected and found; every byte of every listed file and of the manifest itself is covered. */
CAD_CHECKED cad_status cadp_manifest_verify(const char *dir);

/* ---- output.c ---- */
bool cadp_checkpoint_number(const char *name, int64_t *step); /* "checkpoint-12" */
/* Steps of the checkpoint-N folders of a folder, in rising order (none when there is no such folder). */
CAD_CHECKED cad_status cadp_list_checkpoints(const char *dir, int64_t **steps, int *count);
CAD_CHECKED cad_status cadp_checkpoint_path(cad_str *out, const char *dir, int64_t step);
/* What resume_from_checkpoint asks for. */
typedef enum cadp_resume { CADP_RESUME_NONE, CADP_RESUME_LAST, CADP_RESUME_AUTO, CADP_RESUME_PATH } cadp_resume;
cadp_resume cadp_resume_kind(const cad_options *o);

/* ---- lock.c ---- */
/* Takes DIR/.lock. CAD_ERESOURCE with its owner when another job holds it. */
CAD_CHECKED cad_status cadp_lock_take(int *out, const char *dir);
/* The same answer without making a file. */
CAD_CHECKED cad_status cadp_lock_probe(const char *dir);
void cadp_lock_release(int *lock, const char *dir);
#endif
