# Sourced by the tests of the whole program: a scratch folder with a tiny model and records, and how a run is started and judged.
# CADTRAIN: the program (build/cadtrain).
. ./jobs/setup.sh
setup_mpi
repository=$PWD
cadtrain=${CADTRAIN:-$PWD/build/cadtrain}
if [ ! -x "$cadtrain" ]; then
    echo "not ok program $cadtrain is not built"
    exit 1
fi
scratch=$(mktemp -d)
log=$scratch/log
fails=0
export OMP_NUM_THREADS=1 OMPI_MCA_orte_tmpdir_base="$scratch" # a killed mpirun leaves its folder there
trap 'cd / && rm -rf "$scratch"' EXIT
trap 'exit 143' TERM INT
cd "$scratch" || exit 2

# say NAME REASON: no reason is good; else what the program printed follows.
say() {
    if [ -z "$2" ]; then echo "ok $1"; else
        echo "not ok $1 $2"
        sed 's/^/  # /' "$log" | tail -n 12
        fails=1
    fi
}

# A tiny decoder (the demo's) in $model, once for the whole of a script.
make_model() {
    model=$scratch/model
    "$cadtrain" train --max-steps 1 --evaluation-strategy no --save-strategy no --skip-test --max-length 16 --output-dir demo >"$log" 2>&1 || {
        say demo "the demo ended with $?"
        exit 1
    }
    mv outputs/demo/model "$model"
    rm -rf outputs demo
}

# make_records FILE COUNT: short records of made-up people; each text has a word that no output may repeat.
canary=QXVCANARY
make_records() {
    awk -v n="$2" -v word=$canary 'BEGIN {
        x = 12345
        for (i = 0; i < n; i++) {
            x = (x * 1103 + 12347) % 65536
            age = 40 + x % 30; chol = 30 + int(x / 64) % 50; y = (x % 7 < 2) ? 1 : 0
            printf "{\"input\": \"%s%d age %d%s chol %d.%d\", \"output\": %d, \"site\": \"s%d\"}\n", word, i, age, y ? " smoker," : ",", chol / 10, chol % 10, y, i % 3
        }
    }' >"$1"
}

# on RANKS COMMAND…: alone for 1, else under mpirun
on() {
    ranks=$1
    shift
    if [ "$ranks" = 1 ]; then "$@"; else mpirun -np "$ranks" "$@"; fi
}

# train RANKS OUT FLAGS…: a short training; what it prints is in $log, its exit code is returned.
train() {
    world=$1 out=$2
    shift 2
    on "$world" "$cadtrain" train --model-name-or-path "$model" --train-file "$records" --validation-split 0 --max-length 64 --per-device-train-batch-size 1 \
        --learning-rate 1e-3 --save-strategy no --evaluation-strategy no --logging-steps 1 --skip-test --report-to none --output-dir "$out" "$@" >"$log" 2>&1
}

# trained NAME RANKS OUT FLAGS…: as train; a run that fails is a failed check.
trained() {
    check=$1
    shift
    train "$@"
    status=$?
    [ $status = 0 ] || say "$check" "exit code: expected 0, found $status"
    return $status
}

digest() { cat "$1"/*.safetensors 2>/dev/null | sha256sum | cut -c1-64; }

# loss and gradient norm of every logged step
figures() { sed -n 's/.*\("loss": *[^,]*\), *\("grad_norm": *[^,]*\),.*/\1 \2/p' "$1/log.jsonl"; }

# number KEY FILE: the last value of "KEY": VALUE in FILE
number() { sed -n 's/.*"'"$1"'": *\([-0-9.eE+]*\).*/\1/p' "$2" | tail -n 1; }

# steps_of OUT: steps in log.jsonl, one line
steps_of() { sed -n 's/.*"step": *\([0-9]*\), "loss".*/\1/p' "$1/log.jsonl" 2>/dev/null | tr '\n' ' ' | sed 's/ $//'; }

# children PID: its child processes
children() {
    for p in /proc/[0-9]*; do
        parent=$(sed 's/.*) [A-Z] \([0-9]*\) .*/\1/' "$p/stat" 2>/dev/null)
        [ "$parent" != "$1" ] || echo "${p#/proc/}"
    done
}

# put_bytes FILE OFFSET OCTAL…: writes bytes into FILE
put_bytes() {
    file=$1 at=$2
    shift 2
    for byte in "$@"; do printf "\\$byte"; done | dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
}

# flip FILE OFFSET: the byte there becomes another one
flip() {
    old=$(dd if="$1" bs=1 skip="$2" count=1 2>/dev/null | od -An -tu1 | tr -d ' ')
    put_bytes "$1" "$2" "$(printf '%03o' $((old ^ 1)))"
}

size_of() { wc -c <"$1" | tr -d ' '; }

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# wait_for SECONDS COMMAND…: until the command succeeds
wait_for() {
    patience=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$patience" ] || return 1
        sleep 0.02
    done
}

# draw N: a number from 0 to N-1 in $drawn, the same ones in every run
seed=${CADTRAIN_TEST_SEED:-20240607}
draw() {
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    drawn=$((seed / 65536 % $1))
}
