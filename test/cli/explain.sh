#!/bin/sh
# What moved the risk of each record: sums match, columns count to their fields, nothing of a record in what is shared.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
awk -v word=$canary 'BEGIN {
    x = 12345
    for (i = 0; i < 48; i++) {
        x = (x * 1103 + 12347) % 65536
        age = 40 + x % 30; male = int(x / 64) % 2; y = (age > 55 && male || x % 9 == 0) ? 1 : 0
        printf "{\"input\": \"Age: %d. Sex: %s. Smoking: never. Seen by %s%d\", \"output\": %d, \"value_age\": %d, \"site\": \"s%d\", \"risk\": %.3f}\n", age, male ? "male" : "female", word, i, y, age, i % 2, (age - 35) / 60
    }
}' >"$records"
trained explain_text 1 text --max-steps 30 --per-device-train-batch-size 8 --learning-rate 5e-3
trained explain_lora 1 lora --max-steps 6 --per-device-train-batch-size 8 --lora-enable true --head-columns value_age,site --offset-column risk

# explained DIR OUT FLAGS…: the sums of each record match; every record is there
explained() {
    dir=$1 to=$2
    shift 2
    "$cadtrain" explain --checkpoint "$dir" --input "$records" --output "$to" --max-length 64 "$@" >"$log" 2>&1 || { echo "exit code $?"; return; }
    awk '{
        split($0, a, "\"log_odds\": "); split(a[2], b, ","); logit = b[1]
        split($0, a, "\"baseline\": "); split(a[2], b, ","); base = b[1]
        sum = 0; n = split($0, g, "\"gradients\": ")
        for (i = 2; i <= n; i++) { split(g[i], b, "}"); sum += b[1] }
        split($0, a, "\"other_text\": "); split(a[2], b, ","); sum += b[1]
        whole = logit - base; off = sum - whole; if (off < 0) off = -off; size = whole < 0 ? -whole : whole
        if (off > 0.011 * (size > 0.1 ? size : 0.1) + 1e-5) bad++
    } END { if (bad) print bad " of " NR " sums do not match"; if (NR != 48) print NR " records" }' "$to/explanations.jsonl"
}
say explain_text "$(explained text text_out)"
say explain_adapter_with_columns "$(explained lora lora_out)"
say explain_adapter_on_codes "$(explained lora codes_out --load-in-4bit true)"
reason=
for field in age sex smoking site risk; do grep -q "\"field\": \"$field\"" lora_out/importance.json || reason="$reason no $field;"; done
! grep -q value_age lora_out/importance.json || reason="$reason value_age stands apart from age;"
say explain_fields "$reason"
say explain_shares_no_record "$(grep -l $canary lora_out/importance.json lora_out/importance.html text_out/importance.html "$log")"
say explain_is_private "$(find lora_out -type f -perm /077)"
# A field whose words are not there has no part in it; a text that fields.yaml does not word is taken apart at its clauses.
sed 's/Age: \([0-9]*\)\. Sex: \([a-z]*\)\. Smoking: never\. Seen by [A-Z0-9]*/A \1-year-old, weight: 80, from town \1/' "$records" >other.jsonl
"$cadtrain" explain --checkpoint text --input other.jsonl --output other_out --rows 20 >"$log" 2>&1
reason=$([ $? = 0 ] || echo "it failed;")
grep -q '"field": "weight"' other_out/importance.json && grep -q '"field": "A #-year-old"' other_out/importance.json || reason="$reason no clauses"
[ "$(wc -l <other_out/explanations.jsonl)" = 20 ] || reason="$reason not 20 records"
say explain_clauses "$reason"
exit $fails
