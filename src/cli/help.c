#include "cli_priv.h"

#include <stdio.h>

static cad_status put(cad_str *text, cad_status status)
{
    if (!status) fputs(text->data, stdout);
    cad_str_close(text);
    return status;
}

static cad_status list_commands(cad_str *out)
{
    CAD_TRY(cad_str_addf(out, "cadtrain %s: fine-tunes language models to predict coronary artery disease from records written as text\n\n"
                              "cadtrain [COMMAND] [--config FILE] [flags]   alone, or under mpirun -np N or srun\n"
                              "cadtrain FILE.yaml [flags]                   cadtrain train --config FILE.yaml\n\ncommands\n", CADP_VERSION));
    for (const cadp_command *c = cadp_commands; c->name; c++)
        CAD_TRY(cad_str_addf(out, "  %-9s %s\n", c->name, c->summary));
    CAD_TRY(cad_str_addf(out, "  %-9s %s\n", "help", "this page, or that of a command: cadtrain help COMMAND"));
    return cad_str_addf(out, "\nexit codes  0 done, 2 usage or configuration, 3 data, 4 model or tokenizer, 5 checkpoint, 6 memory, disk or device,\n"
                             "            70 internal or NaN, 75 stopped with a checkpoint written (run again to go on), 124 watchdog\n");
}

static cad_status list_flags(cad_str *out, const cad_flag *flags)
{
    for (const cad_flag *f = flags; f && f->name; f++) {
        if (f == flags) CAD_TRY(cad_str_addf(out, "flags of this command\n"));
        CAD_TRY(cad_str_addf(out, "  %s%s%s\n        %s\n", *f->name ? "--" : "", *f->name ? f->name : "ARGUMENT",
                             !*f->name || !f->takes_value ? "" : f->many ? " VALUE…" : " VALUE", f->help));
    }
    return CAD_OK;
}

static cad_status describe(cad_str *out, const cadp_command *c)
{
    CAD_TRY(cad_str_addf(out, "cadtrain %s\n%s\n\n", c->usage, c->summary));
    return c->marks & CADP_OPTIONS ? cad_config_help(out, c->flags) : list_flags(out, c->flags);
}

cad_status cadp_help_all(void)
{
    cad_str text = {0};

    return put(&text, list_commands(&text));
}

cad_status cadp_help_command(const cadp_command *c)
{
    cad_str text = {0};

    return put(&text, describe(&text, c));
}

const cadp_command *cadp_find_command(const char *name)
{
    for (const cadp_command *c = cadp_commands; c->name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}

cad_status cadp_unknown_command(const char *name)
{
    cad_near near = {.wanted = name};

    cad_near_offer(&near, "help");
    for (const cadp_command *c = cadp_commands; c->name; c++) cad_near_offer(&near, c->name);
    return cad_fail(CAD_EUSAGE, "unknown command \"%.60s\"%s", name, near.found ? cad_near_hint(&near, "") : "; `cadtrain help` lists them");
}
