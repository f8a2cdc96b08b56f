#!/bin/sh
# Metrics and a page from prediction files.
. test/cli/checks

cat >"$scratch/a.jsonl" <<'END'
{"index": 0, "label": 0, "prediction": 0, "positive_probability": 0.1, "logits": [1.0986, -1.0986]}
{"index": 1, "label": 0, "prediction": 1, "positive_probability": 0.4, "logits": [0.2027, -0.2027]}
{"index": 2, "label": 1, "prediction": 0, "positive_probability": 0.35, "logits": [0.3095, -0.3095]}
{"index": 3, "label": 1, "prediction": 1, "positive_probability": 0.8, "logits": [-0.6931, 0.6931]}
END
printf 'label,positive_probability\n0,0.1\n0,0.4\n1,0.35\n1,0.8\n' >"$scratch/a.csv"
printf 'label,positive_probability\n0,0.1\n0,0.2\n1,0.7\n1,0.8\n' >"$scratch/b.csv"

run report --predictions "$scratch/a.jsonl" --output "$scratch/one"
reason=$(why 0 "$scratch/one/metrics.json" '"auc": 0.75')
grep -q '"accuracy": 0.5,' "$scratch/one/metrics.json" || reason="the column prediction is not obeyed"
grep -qi '</html>' "$scratch/one/report.html" || reason="no page"
[ -z "$(find "$scratch/one" -perm /077)" ] || reason="others may read it"
say jsonl "$reason"
run report --predictions "$scratch/a.csv" --output "$scratch/two"
reason=$(why 0 "$scratch/two/metrics.json" '"auc": 0.75')
grep -q '"accuracy": 0.75,' "$scratch/two/metrics.json" || reason="no threshold of 0.5 without the column prediction"
say csv "$reason"
run report --predictions "$scratch/a.csv" "$scratch/b.csv" --output "$scratch/three"
say files_end_to_end "$(why 0 "$scratch/three/metrics.json" '"n": 8,')"
run report --predictions "$scratch/a.csv" --compare "$scratch/b.csv" --output "$scratch/four"
reason=$(why 0 "$scratch/four/metrics.json" '"auc_difference": 0.25')
grep -q '"auc": 0.75,' "$scratch/four/metrics.json" || reason="the metrics themselves changed"
say compare "$reason"

# wrong NAME LINE PATTERN
wrong() {
    { cat "$scratch/a.csv"; echo "$2"; } >"$scratch/bad.csv"
    refused "$1" 3 "$3" report --predictions "$scratch/bad.csv" --output "$scratch/bad"
}
wrong label_2 '2,0.5' 'bad.csv:6: label: expected 0 or 1'
wrong label_missing ',0.5' 'bad.csv:6: label: expected 0 or 1'
wrong probability_above_1 '1,1.5' 'bad.csv:6: positive_probability: expected a number from 0 to 1'
wrong probability_nan '1,nan' 'bad.csv:6: positive_probability: expected'
wrong probability_words '1,0.5x' 'bad.csv:6: positive_probability: expected'
printf 'label,positive_probabilty\n0,0.1\n' >"$scratch/typo.csv"
refused misspelt_column 3 'positive_probability.*positive_probabilty' report --predictions "$scratch/typo.csv" --output "$scratch/bad"
head -n 4 "$scratch/b.csv" >"$scratch/short.csv"
refused compare_shorter 3 'short.csv: expected the 4 rows' report --predictions "$scratch/a.csv" --compare "$scratch/short.csv" --output "$scratch/bad"
refused missing_file 3 'nowhere.csv' report --predictions "$scratch/nowhere.csv" --output "$scratch/bad"
[ ! -e "$scratch/bad" ]
say nothing_is_written "$([ $? = 0 ] || echo 'a folder was made')"
exit $fails
