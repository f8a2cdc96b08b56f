#include "cli_priv.h"

#include <stdio.h>

static cad_status describe_device(cad_json *j, const char *name)
{
    cad_device *d = NULL;
    cad_status st = cad_device_open(&d, name, 0);

    if (st) {
        st = cad_json_string(j, name, st == CAD_EUSAGE ? "not in this build" : cad_reason());
        cad_clear();
    } else st = cad_json_string(j, name, cad_device_description(d));
    (void)cad_device_close(&d);
    return st;
}

static cad_status describe(cad_json *j, const cadp_call *c)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "cadtrain", CADP_VERSION));
    CAD_TRY(cad_json_string(j, "mpi", cad_comm_library(c->comm)));
    CAD_TRY(cad_json_string(j, "hdf5", cad_h5_version()));
    CAD_TRY(describe_device(j, "cpu"));
    CAD_TRY(describe_device(j, "cuda"));
    return cad_json_end(j);
}

static void print_lines(const cad_node *root)
{
    for (const cad_node *n = root->child; n; n = n->next) printf("%-9s %s\n", n->key, n->text);
}

static cad_status print(const cadp_call *c, const cad_str *text)
{
    cad_tree *tree = NULL;

    if (c->json) {
        printf("%s\n", text->data);
        return CAD_OK;
    }
    CAD_TRY(cad_json_parse(&tree, text->data, text->size, "version", CAD_EINTERNAL));
    print_lines(tree->root);
    cad_tree_close(&tree);
    return CAD_OK;
}

cad_status cadp_cmd_version(cadp_call *c)
{
    cad_json j = {.pretty = true};
    cad_status st = CAD_OK;

    if (c->rank == 0) st = describe(&j, c);
    if (!st && c->rank == 0) st = print(c, &j.text);
    cad_json_close(&j);
    return st;
}
