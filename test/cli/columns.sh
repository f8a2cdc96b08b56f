#!/bin/sh
# Columns of a record beside its text, a score as offset, weights of rows: all methods, ranks and stages; saved, resumed, scored.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
awk 'BEGIN {
    x = 12345
    for (i = 0; i < 60; i++) {
        x = (x * 1103 + 12347) % 65536
        age = 40 + x % 30; y = (x % 7 < 2 || age > 65) ? 1 : 0
        printf "{\"input\": \"record %d\", \"output\": %d, \"age\": %s, \"town\": \"t%d\", \"code\": %d, \"risk\": %.3f, \"w\": %.2f}\n", i, y, i % 9 ? age : "null", i % 3, i % 2, (age - 35) / 50, 1 + i % 3
    }
}' >"$records"
beside="--head-columns age,town,code:category --offset-column risk --weight-column w"

# same NAME FLAGS… < lines "RANKS STAGE": the same bits everywhere
same() {
    name=$1
    shift
    first= reason=
    while read -r world stage; do
        rm -rf out
        # shellcheck disable=SC2086
        trained "${name}_run" "$world" out --gradient-accumulation-steps $((6 / world)) --zero-stage "$stage" --max-steps 4 $beside "$@" </dev/null || continue
        found="$(digest out) $(figures out | sha256sum)"
        first=${first:-$found}
        [ "$found" = "$first" ] || reason="$reason $world ranks, stage $stage;"
    done
    say "columns_same_bits_$name" "${reason:+these differ from the first: $reason}"
}
same full <<END
1 0
2 2
3 3
END
same lora --lora-enable true --lora-r 4 <<END
1 0
2 3
END
same qlora --lora-enable true --lora-r 4 --load-in-4bit true <<END
1 0
2 3
END

# A run begins at the regression of its columns: a learning rate of nearly nothing ends there too, and what scores it later finds the same.
# shellcheck disable=SC2086
trained columns_begin 2 begun $beside --max-steps 1 --learning-rate 1e-12
reason=
for key in '"kind": "number"' '"kind": "category"' '"missing": true' '"scale": "risk"' '"town = t1"' '"age is missing"' '"code = 1"'; do
    grep -q -- "$key" begun/head_columns.json || reason="$reason no $key in head_columns.json;"
done
say columns_are_described "$reason"
"$cadtrain" predict --checkpoint begun --input "$records" --output - >alone.jsonl 2>"$log" && mpirun -np 2 "$cadtrain" eval --checkpoint begun --test-file "$records" --prediction-output-dir scored >"$log" 2>&1
say columns_scored "$([ $? = 0 ] && cmp alone.jsonl scored/predictions.jsonl 2>&1)"
sum=$(awk -F'"positive_probability": ' '{ split($2, a, ","); match($0, /"w": [0-9.]*/); w = substr($0, RSTART + 5, RLENGTH - 5); match($0, /"label": [01]/); e += w * substr($0, RSTART + 9, 1); p += w * a[1] }
    END { print (e - p < 1e-3 && p - e < 1e-3) ? "" : "weighted events " e ", expected " p }' scored/predictions.jsonl)
say columns_begin_calibrated "$sum"

# Stopped after two steps and resumed: the same model.
# shellcheck disable=SC2086
trained columns_whole 1 whole $beside --max-steps 4 --lora-enable true && trained columns_half 1 parts $beside --max-steps 4 --lora-enable true --save-strategy steps --save-steps 2 &&
    rm -rf parts/checkpoint-4 && ln -sfn checkpoint-2 parts/last && trained columns_resumed 2 parts $beside --max-steps 4 --lora-enable true --save-strategy steps --save-steps 2 --resume-from-checkpoint last
say columns_resume "$([ "$(digest whole)" = "$(digest parts)" ] || echo "another model")"
cmp whole/head_columns.json parts/head_columns.json >>"$log" 2>&1 && [ -f parts/checkpoint-2/head_columns.json ]
say columns_in_checkpoints "$([ $? = 0 ] || echo "head_columns.json is not beside every model")"

# refused NAME CODE PATTERN COMMAND…
refused() {
    name=$1 want=$2 pattern=$3
    shift 3
    "$@" >"$log" 2>&1
    code=$?
    reason=
    [ "$code" = "$want" ] || reason="exit code: expected $want, found $code;"
    grep -q 'cadtrain: error: .*'"$pattern" "$log" || reason="$reason no error with '$pattern'"
    say "columns_$name" "$reason"
}
sed 's/"town"/"city"/' "$records" >other.jsonl
refused missing_column 3 'there is no column "town"' "$cadtrain" predict --checkpoint begun --input other.jsonl --output -
sed '7s/"age": [0-9]*/"age": "old"/' "$records" >other.jsonl
refused no_number 3 'other.jsonl:7: column "age": expected a number' "$cadtrain" predict --checkpoint begun --input other.jsonl --output -
sed '5s/"risk": [0-9.]*/"risk": 3.5/' "$records" >other.jsonl
refused no_risk 3 'other.jsonl:5: offset_column "risk"' "$cadtrain" predict --checkpoint begun --input other.jsonl --output -
sed 's/"town": "t0"/"town": "elsewhere"/; s/"age": [0-9][0-9]*/"age": null/' "$records" >other.jsonl
"$cadtrain" predict --checkpoint begun --input other.jsonl --output - >"$log" 2>&1
say columns_new_level_and_missing "$([ $? = 0 ] || echo "a new level or a missing number is refused")"
refused unknown 3 'nearest name is "town"' train 1 x --head-columns twn
mv begun/head_columns.json aside.json
refused undescribed 4 'head_columns' "$cadtrain" predict --checkpoint begun --input "$records" --output -
mv aside.json begun/head_columns.json

# What is copied, folded and pushed keeps them.
reason=
"$cadtrain" export --checkpoint begun --output copied >"$log" 2>&1 && "$cadtrain" predict --checkpoint copied --input "$records" --output copied.jsonl >"$log" 2>&1 && cmp alone.jsonl copied.jsonl >>"$log" 2>&1 || reason="a copy scores otherwise;"
"$cadtrain" export --checkpoint whole --output folded --merge >"$log" 2>&1 && "$cadtrain" predict --checkpoint folded --input "$records" --output folded.jsonl >>"$log" 2>&1 || reason="$reason an adapter with columns cannot be folded in;"
"$cadtrain" predict --checkpoint whole --input "$records" --output adapter.jsonl >>"$log" 2>&1
same=$(paste adapter.jsonl folded.jsonl 2>/dev/null | sed 's/"positive_probability": \([0-9.e-]*\)/\n\1\n/g' | grep -E '^[0-9.e-]+$' | paste - - | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5) n++ } END { print n + 0 " " NR }')
[ "$same" = "0 60" ] || reason="$reason folded in it scores otherwise ($same);"
say columns_exported "$reason"
exit $fails
