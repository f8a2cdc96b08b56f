#!/bin/sh
# Every command runs under mpirun and alone, with the same words on standard output and the same files.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 10
sed 's/"input"/"text"/; s/, "output".*/}/' "$records" >texts.jsonl
head -n 5 "$records" | sed 's/.*"input": "\([^"]*\)".*/{"prompt": "\1"}/' >prompts.jsonl
trained trained_model 1 tuned --max-steps 2 || exit 1

# same NAME WHAT COMMAND…: WHAT: the file or folder that each run writes in its own folder, or - for standard output alone
same() {
    name=$1 made=$2 reason=
    shift 2
    for ranks in 1 3; do
        rm -rf "by$ranks"
        mkdir "by$ranks"
        on "$ranks" env -C "by$ranks" "$cadtrain" "$@" >"said$ranks" 2>"$log" || reason="exit code $? on $ranks ranks"
    done
    sed -i '/"largest_micro_batch"/d' said1 said3 # follows from the memory that is free just now
    [ -n "$reason" ] || reason=$(cmp said1 said3 2>&1)
    [ -n "$reason" ] || [ "$made" = - ] || reason=$(diff -r by1/"$made" by3/"$made" 2>&1 | head -n 2 | cut -c1-300)
    [ -n "$reason" ] || [ "$made" != - ] || [ -s said1 ] || reason='nothing was said'
    say "$name" "$reason"
}

for stage in 0 3; do
    same score_$stage - score --model-name-or-path "$model" --input "$scratch/texts.jsonl" --zero-stage $stage
    same embed_$stage - embed --model-name-or-path "$model" --input "$scratch/texts.jsonl" --pooling mean --zero-stage $stage
    same generate_$stage - generate --model-name-or-path "$model" --input "$scratch/prompts.jsonl" --max-new-tokens 5 --json --zero-stage $stage
    same explain_$stage out explain --checkpoint "$scratch/tuned" --input "$records" --output out --max-length 64 --rows 4 --zero-stage $stage
    same predict_$stage out.jsonl predict --checkpoint "$scratch/tuned" --input "$records" --output out.jsonl --zero-stage $stage
done
same inspect - inspect "$model"
same plan - plan --model-name-or-path "$model" --world-size 4 --device-memory 8GB
same check - check --json --model-name-or-path "$model" --train-file "$records" --max-length 64
same export out export --checkpoint "$scratch/tuned" --output out
same push out push --checkpoint "$scratch/tuned" --to out
same synth out synth --output out --people 200 --seed 1
same version - version
exit $fails
