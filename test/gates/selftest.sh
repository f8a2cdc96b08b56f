#!/bin/sh
# Each gate finds a planted violation at its place, and a clean tree has none.
gates=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fails=0

fresh() {
    rm -rf "$work/tree"
    mkdir -p "$work/tree/include/cadtrain" "$work/tree/src/base" "$work/tree/src/comm" "$work/tree/src/model" "$work/tree/src/device/cpu" "$work/tree/test/unit"
    cd "$work/tree" || exit 2
    printf '#include <stdint.h>\nint32_t cad_x(void);\n' >include/cadtrain/base.h
    printf '#include <cadtrain/base.h>\n' >include/cadtrain/comm.h
    printf '#include <cadtrain/base.h>\n' >include/cadtrain/text.h
    printf '#include <cadtrain/base.h>\n' >include/cadtrain/model.h
    printf '#include <cadtrain/base.h>\n' >include/cadtrain/optim.h
    printf '#include <cadtrain/base.h>\n' >src/comm/room_priv.h
    printf 'int32_t cad_dnnl(void);\n' >src/device/device_priv.h
    printf '#include <cadtrain/base.h>\nint32_t f(void) { return 0; } /* llama, malloc(1), MPI_Send */\n' >src/base/good.c
    printf '#include "../device_priv.h"\n#include <dnnl.h>\n#include <immintrin.h>\n' >src/device/cpu/fine.c
    printf '#include <cadtrain/comm.h>\n#include <cadtrain/model.h>\n// free(p); bert\nconst char *s = "free(p) // \\" MPI_Init";\nvoid g(void) { c->free(p); Robert(); snprintf(s, 1, "x"); (void)'"'\"'"'; }\n' >src/model/ok.c
}

# gate NAME FILE:LINE REASON CONTENT: CONTENT in FILE makes exactly this violation
gate() {
    fresh
    file=${2%%:*}
    mkdir -p "$(dirname "$file")"
    printf '%b' "$4" >"$file"
    "$gates/run.sh" "$work/tree" >"$work/out" 2>&1
    code=$?
    if [ $code = 1 ] && grep -qF -- "$2: " "$work/out" && grep -q -- "$3" "$work/out" && [ "$(tail -n 1 "$work/out")" = "gates: 1 violations" ]; then
        echo "ok gate_$1"
    else
        echo "not ok gate_$1 code $code: $(tr '\n' ' ' <"$work/out" | cut -c 1-300)"
        fails=1
    fi
}

fresh
if "$gates/run.sh" "$work/tree" >"$work/out" 2>&1 && [ "$(cat "$work/out")" = "gates: 0 violations" ]; then echo "ok gate_clean"; else
    echo "not ok gate_clean $(tr '\n' ' ' <"$work/out")"
    fails=1
fi
long=$(awk 'BEGIN { printf "int a[] = {\\n"; for (i = 0; i < 120; i++) printf "1,\\n"; printf "};\\nint\\nh(int x)\\n{\\n"; for (i = 0; i < 96; i++) printf "x++;\\n"; printf "}\\n" }')
longer=$(awk 'BEGIN { printf "struct s {\\n  int x;\\n};\\n\\nint h(int x)\\n{\\n"; for (i = 0; i < 99; i++) printf "if (x) { x++; }\\n"; printf "}\\n" }')

gate upward src/base/up.c:2 'base (layer 0) may not know comm (layer 2)' '/* why */\n#include <cadtrain/comm.h>\n'
gate sibling src/comm/side.c:1 'comm (layer 2) may not know text' '#include <cadtrain/text.h>\n'
gate sibling_header include/cadtrain/data.h:1 'data (layer 3) may not know optim' '#include <cadtrain/optim.h>\n'
gate unknown_header include/cadtrain/news.h:1 'belongs to no room' 'int news;\n'
gate unknown_folder src/attic/old.c:1 'belongs to no room' 'int old;\n'
gate private_header src/model/peek.c:1 'private to another room' '#include "../comm/room_priv.h"\n'
gate foreign src/model/send.c:1 '<mpi.h> lives in src/comm' '#include <mpi.h>\n'
gate foreign_dnnl src/comm/fast.c:1 'lives in src/device/cpu' '#include <oneapi/dnnl/dnnl.h>\n'
gate strange src/comm/curl.c:1 'not a header this project knows' '#include <curl/curl.h>\n'
gate memory src/model/mem2.c:3 'memory comes from cad_alloc' 'int x;\n\nvoid f(void) { int *p = malloc(4); }\n'
gate mpi src/model/raw.c:1 'MPI lives in src/comm' 'void f(void) { MPI_Barrier(0); }\n'
gate unsafe src/model/copy.c:1 'unsafe or unchecked' 'void f(char *a) { strcpy(a, "x"); }\n'
gate family_string src/model/fam.c:2 'family' '\nint f(void) { return !strcmp(s, "Qwen2"); }\n'
gate family_name src/model/fam.c:1 'family' 'int is_bert;\n'
gate long src/model/long.c:5 'a function of 102 lines' "$longer"
gate name test/unit/good.c:1 'the name is taken' 'int x;\n'
gate alone include/cadtrain/zero.h:1 'does not compile alone as c++' 'int class;\n'

fresh
printf '%b' "$long" >src/model/hundred.c
if "$gates/run.sh" "$work/tree" >"$work/out" 2>&1; then echo "ok gate_hundred_lines_and_long_tables_pass"; else
    echo "not ok gate_hundred_lines_and_long_tables_pass $(head -n 1 "$work/out")"
    fails=1
fi
exit $fails
