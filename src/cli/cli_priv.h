/* What the commands share. A command is a row of the table in main.c. */
#ifndef CADP_CLI_PRIV_H
#define CADP_CLI_PRIV_H
#include <cadtrain/train.h>

#define CADP_VERSION "0.1.0"

enum {
    CADP_COMPUTES = 1,  /* on all ranks; the other commands run on rank 0 alone, without MPI */
    CADP_RUN = 2,       /* with no --config: cadtrain.yaml of the current directory, or the embedded demo */
    CADP_OPTIONS = 4,   /* obeys the configuration: its options belong to the help, its source is said */
    CADP_RESULTS = 8,   /* standard output holds results: nothing else is printed there */
    CADP_WATCHED = 16,  /* the watchdog runs */
    CADP_LIBRARY = 64   /* opens MPI where it can, to say which one it is */
};

typedef struct cadp_call cadp_call;
typedef struct cadp_command {
    const char *name, *usage, *summary;
    unsigned marks;
    const cad_flag *flags;       /* ends with {0}; NULL: none */
    const char *required[3];     /* flags that must be given */
    const char *prelude[3];      /* arguments put before those of the user */
    cad_status (*run)(cadp_call *c);
} cadp_command;
extern const cadp_command cadp_commands[]; /* ends with {0} */

/* One command being run, the same on every rank that runs it. */
struct cadp_call {
    const cadp_command *command;
    cad_flag *flags;             /* this command's, filled in; `values` on rank 0 only */
    cad_config *config;
    cad_options *o;
    char *config_json;           /* the resolved configuration */
    bool wants_print;
    bool json;                   /* --json */
    char *from_root;             /* what config_json and the flags of the other ranks borrow from */
    cad_comm *comm;
    int rank, size;
};

/* ---- call.c ---- */
/* Runs the command from reading the arguments to its exit code; prints failures. Collective where the command computes. */
int cadp_call_run(const cadp_command *command, int argc, char **argv);
const cad_flag *cadp_call_flag(const cadp_call *c, const char *name); /* of this command */
/* On rank 0 an optional flag's value, or NULL. */
const char *cadp_call_value(const cadp_call *c, const char *name);
/* A flag that is a whole number; *out stays as it is where the flag is not given. */
CAD_CHECKED cad_status cadp_call_whole(const cadp_call *c, const char *name, int64_t least, int64_t most, int64_t *out);
bool cadp_call_given(const cadp_call *c, const char *name);
bool cadp_names_experiment(const char *arg); /* a file, not a flag: .yaml, .yml, .json */

/* ---- launcher.c: what the launcher says in the environment, before MPI is opened ---- */
bool cadp_launched(void);     /* by mpirun, srun or another launcher */
int cadp_launcher_rank(void); /* 0 where none speaks */

/* ---- help.c ---- */
CAD_CHECKED cad_status cadp_help_all(void);
CAD_CHECKED cad_status cadp_help_command(const cadp_command *command);
const cadp_command *cadp_find_command(const char *name);
/* CAD_EUSAGE with the nearest command. */
CAD_CHECKED cad_status cadp_unknown_command(const char *name);

/* ---- commands ---- */
cad_status cadp_cmd_train(cadp_call *c);
cad_status cadp_cmd_eval(cadp_call *c);
cad_status cadp_cmd_predict(cadp_call *c);
cad_status cadp_cmd_embed(cadp_call *c);
cad_status cadp_cmd_explain(cadp_call *c);
CAD_CHECKED cad_status cadp_report_demo(const cad_options *o); /* rank 0 */
cad_status cadp_cmd_check(cadp_call *c);
cad_status cadp_cmd_score(cadp_call *c);
cad_status cadp_cmd_generate(cadp_call *c);
cad_status cadp_cmd_push(cadp_call *c);
cad_status cadp_cmd_plan(cadp_call *c);
cad_status cadp_cmd_tokenize(cadp_call *c);
cad_status cadp_cmd_inspect(cadp_call *c);
cad_status cadp_cmd_export(cadp_call *c);
cad_status cadp_cmd_report(cadp_call *c);
cad_status cadp_cmd_bench(cadp_call *c);
cad_status cadp_cmd_synth(cadp_call *c);
cad_status cadp_cmd_prepare(cadp_call *c);
cad_status cadp_cmd_version(cadp_call *c);
#endif
