#!/bin/sh
# From a seed to extracts, from extracts to records, a few steps of training, a report.
. test/cli/checks
golden=$PWD/test/golden
configs=$PWD/configs
cd "$scratch" || exit 2
salt=$(printf '%064d' 7)

# truth KEY: a number of the generator's truth.json
truth() { sed -n "s/^  \"$1\": \([0-9.]*\),*$/\1/p" uk/truth.json; }

run synth --output uk --people 1000 --seed 3
reason=$(why 0 "$out" 'uk/cohort.yaml')
[ -z "$(find uk -perm /077)" ] || reason="others may read what was written"
[ "$(wc -l <uk/truth.csv)" = 1001 ] || reason="expected a line of truth for each person"
say synth "$reason"

run prepare --config uk/cohort.yaml
reason=$(why 0 "$out" "in the study $(($(truth cases) + $(truth controls))), events $(truth cases)")
for fate in prevalent censored no_linkage unknown_date case control; do
    case $fate in case) n=$(truth cases) ;; control) n=$(truth controls) ;; *) n=$(truth $fate) ;; esac
    found=$(awk -F, -v f=$fate 'f == "case" ? $5 == "1" : f == "control" ? $5 == "0" : $3 == f' uk/prepared/private/ids.csv | wc -l)
    [ "$found" = "$n" ] || reason="$fate: expected $n people, found $found"
done
[ "$(awk -F, 'NR > 1' uk/prepared/private/ids.csv | wc -l)" = $((1000 - $(truth withdrawn))) ] || reason="people who withdrew are still there"
# the generator's verdict on each person
sed 1d uk/truth.csv | awk -F, '$2 == "case" { print $1 ",1" } $2 == "control" { print $1 ",0" }' | sort >true_labels
awk -F, '$3 == "in" { print $2 "," $5 }' uk/prepared/private/ids.csv | sort >labels
cmp -s labels true_labels || reason="labels differ from the truth"
say prepare "$reason"

reason=
[ "$(cat uk/prepared/private/*.jsonl | wc -l)" = "$(wc -l <labels)" ] || reason="expected a record for each person"
cat uk/prepared/private/*.jsonl | sed 's/.*"input": "\([^"]*\)".*/\1/' | sort | uniq -d | grep -q . && reason="a text stands twice"
[ -z "$(find uk/prepared -perm /077)" ] || reason="others may read it"
[ "$(cat uk/prepared/private/.gitignore)" = '*' ] || reason="private/ is open to git"
sed 1d uk/truth.csv | cut -d, -f1 >eids
! cat uk/prepared/share/* uk/prepared/private/*.jsonl | grep -qwFf eids || reason="an id stands in a record or in share/"
! grep -qE '[0-9]{4}-[0-9]{2}-[0-9]{2}|"(people|events|n|missing|count)": [1-4]([^0-9]|$)' uk/prepared/share/*.json || reason="a date or a small count in share/"
say private "$reason"

reason=
mkdir -p together
for d in csv txt tab rap rap-labels rap-title ukb-format mixed; do
    run synth --output "d/$d" --people 300 --seed 5 --dialect $d
    mkdir -p "d/$d/prepared/private"
    printf '%s' "$salt" >"d/$d/prepared/private/salt"
    run prepare --config "d/$d/cohort.yaml"
    [ "$code" = 0 ] || reason="$d: exit code $code"
    cat "d/$d/prepared/private/"*.jsonl | sort >"together/$d"
    cmp -s together/csv "together/$d" || reason="$d: other records than csv"
done
[ -s together/csv ] || reason="no records"
say dialects "$reason"

# the record tables alone, the summary fields alone, gz: the same people
cp -r d/csv z && gzip z/ukb_*.csv z/hesin*.txt
sed -i 's/\.csv$/.csv.gz/; s/\(hesin.*\)\.txt$/\1.txt.gz/; s/w00000_20240101.csv.gz/w00000_20240101.csv/' z/cohort.yaml
run prepare --config z/cohort.yaml --set cohort.output_dir=z/out
awk -F, '{ print $2 "," $3 "," $5 }' d/csv/prepared/private/ids.csv | sort >wanted
awk -F, '{ print $2 "," $3 "," $5 }' z/out/private/ids.csv 2>/dev/null | sort >found
say gz "$(why 0 "$out" 'in the study'; cmp wanted found)"
run prepare --config d/csv/cohort.yaml --set 'cohort.record_tables=[]' --set cohort.output_dir=o1
reason=$(why 0 "$out" 'in the study')
run prepare --config d/csv/cohort.yaml --set 'cohort.extracts=[d/csv/ukb_basics.csv, d/csv/ukb_visit.csv]' --set cohort.output_dir=o2
[ -n "$reason" ] || reason=$(why 0 "$out" 'in the study')
for o in o1 o2; do
    awk -F, '{ print $2 "," $3 "," $5 }' $o/private/ids.csv | sort | cmp -s - wanted || reason="$o: other labels"
done
say sources "$reason"

run prepare --config uk/cohort.yaml --set cohort.split=centre --set 'cohort.test_centres=[11004, 11005]' --set cohort.output_dir=c
reason=$(why 0 "$out" 'in the study')
[ "$(sed 's/.*"region": "\([A-Za-z]*\)".*/\1/' c/private/test.jsonl | sort -u)" = Scotland ] || reason="others than Scotland in the test"
! grep -q '"region": "Scotland"' c/private/train.jsonl || reason="Scotland in training"
for s in train validation test; do sed 's/.*"group": "\([0-9a-f]*\)".*/\1/' c/private/$s.jsonl | sort -u; done | sort | uniq -d | grep -q . && reason="a family on two sides"
say centres "$reason"
for s in train validation test; do sed 's/.*"group": "\([0-9a-f]*\)".*/\1/' uk/prepared/private/$s.jsonl | sort -u; done | sort | uniq -d >twice
say families "$([ ! -s twice ] || echo 'a family on two sides')"
run prepare --config uk/cohort.yaml --set cohort.censored=weight --set cohort.output_dir=w
say weights "$(why 0 w/private/train.jsonl '"weight": 1\.[0-9]*[1-9]')"

# leak RULE FIELD-LINE
leak() {
    { cat "$configs/ukb/fields.yaml"; echo "  - $2"; } >leak.yaml
    refused "leak_$1" 3 "leakage: $1, field leak" prepare --config uk/cohort.yaml --set cohort.fields="$scratch/leak.yaml" --set cohort.output_dir=l
}
leak outcome_twin '{name: leak, fields: [6150], kind: any, codes: [1], "yes": "Heart attack."}'
leak after_baseline '{name: leak, fields: [4080], instance: 1, wording: "Later pressure: {value}."}'
leak place_or_date '{name: leak, fields: [54], wording: "Centre {value}."}'
[ ! -e l/private/train.jsonl ]
say leak_writes_nothing "$([ $? = 0 ] || echo 'records were written')"
run prepare --config uk/cohort.yaml --set cohort.fields="$scratch/leak.yaml" --set 'cohort.allow=[place_or_date]' --set cohort.output_dir=l
reason=$(why 0 "$out" 'in the study')
grep -q '"rule": "place_or_date".*"verdict": "allowed"' l/share/cohort.json || reason="the exception is not written down"
say leak_allowed "$reason"

# broken NAME PATTERN SED: an extract or table that is not as it should be
broken() {
    rm -rf b && cp -r d/csv b && rm -rf b/prepared
    sed -i "$4" "b/$3"
    run prepare --config b/cohort.yaml --set cohort.output_dir=b/out
    reason=$(why 3 "$err" "$2")
    [ "$(grep -c "cadtrain: error" "$err")" = 1 ] || reason="expected one error"
    [ ! -e b/out ] || reason="something was written"
    say "bad_$1" "$reason"
}
broken mixed_dates 'ukb_basics.csv:5:3: column "53-0.0": expected a date as 2008-03-31 as before' ukb_basics.csv '5s/"\([0-9]*\)-\([0-9]*\)-\([0-9]*\)"/"\3\/\2\/\1"/'
broken twice 'ukb_basics.csv:5:1: column "eid": expected every participant once' ukb_basics.csv '4{p;}'
broken cut 'ukb_visit.csv:9: expected [0-9]* fields as in the header, found 4' ukb_visit.csv '9s/^\([^,]*,[^,]*,[^,]*,[^,]*\).*/\1/'
broken quote 'ukb_visit.csv:9: expected a closing quote' ukb_visit.csv '9s/","/"x,"/'
broken label 'ukb_visit.csv:7:[0-9]*: column "20116-0.0": expected a number, a code or a label' ukb_visit.csv '7s/^\("[^"]*",\)\(\("[^"]*",\)\{9\}\)"[^"]*"/\1\2"smokes secretly"/'
! grep -q secretly "$err"
say bad_label_is_not_told "$([ $? = 0 ] || echo 'the value is in the message')"
broken no_id 'ukb_blood.csv:1: expected one column of participant ids' ukb_blood.csv '1s/"eid"/"id"/'
broken column_twice 'ukb_blood.csv:1: expected every column once' ukb_blood.csv '1s/30760-0.0/30690-0.0/'
broken eid 'ukb_blood.csv:3:1: column "eid": expected a participant' ukb_blood.csv '3s/^"[0-9]*"/"x17"/'
broken record_date 'hesin.txt:6:[0-9]*: column "admidate": expected a date' hesin.txt '6s/\t[0-9]*\/[0-9]*\/[0-9]*$/\t2010-01-02/'
broken record_table 'death.txt:1: expected the columns of hesin' death.txt '1s/date_of_death/date/'
broken kinship 'ukb_rel.dat:1: expected a header' ukb_rel.dat 1d
rm -rf b && cp -r d/csv b && printf '\357\273\277' >b/bom && cat b/ukb_basics.csv >>b/bom && sed 's/$/\r/' b/bom >b/ukb_basics.csv
run prepare --config b/cohort.yaml --set cohort.output_dir=b/out
awk -F, '{ print $2 "," $3 "," $5 }' b/out/private/ids.csv 2>/dev/null | sort >found
say bom_and_crlf "$(why 0 "$out" 'in the study'; cmp wanted found)"
# Labels for codes in every second row, free text in Latin-1 (a column that nobody wants, with a marker): the same people, and the marker nowhere.
rm -rf b && cp -r d/csv b && awk -F, -v OFS=, -v q='"' '
    NR == 1 { for (i = 1; i <= NF; i++) if ($i == q "31-0.0" q) sex = i; print $0, q "20199-0.0" q; next }
    NR % 2 { $sex = $sex == q "0" q ? q "Female" q : $sex == q "1" q ? q "Male" q : $sex } { printf "%s,%sQXMARK caf\351 2009-01-02%s\n", $0, q, q }' d/csv/ukb_basics.csv >b/ukb_basics.csv
run prepare --config b/cohort.yaml --set cohort.output_dir=b/out
awk -F, '{ print $2 "," $3 "," $5 }' b/out/private/ids.csv 2>/dev/null | sort >found
say half_labels_and_latin1 "$(why 0 "$out" 'in the study'; cmp wanted found)"
grep -rqlaF QXMARK "$out" "$err" b/out
say free_text_stays "$([ $? = 1 ] || echo "a marker of a free text column was written")"
refused nowhere 3 'nowhere.csv: cannot open' prepare --config uk/cohort.yaml --set 'cohort.extracts=[nowhere.csv]'
refused dialect 2 'expected mixed, csv' synth --output x --people 5 --dialect html
refused no_record 2 'cohort.template: expected .record.' prepare --config uk/cohort.yaml --set 'cohort.template=nothing'
refused unknown_rule 2 'did you mean "too_good"' prepare --config uk/cohort.yaml --set 'cohort.allow=[to_good]'
refused centre_name 2 'cohort.test_centres: expected codes of field 54.*found "Leeds"' prepare --config uk/cohort.yaml --set cohort.split=centre --set 'cohort.test_centres=[Leeds]'
refused no_extracts 2 'cohort.extracts: expected files' prepare --set cohort.output_dir=x

# Records go on to training and back as a report.
ranks 2 train --config uk/cohort.yaml --model-name-or-path "$golden/full" --max-length 128 --max-steps 3 --logging-steps 1 --per-device-train-batch-size 4 --output-dir trained --prediction-output-dir scored
reason=$(why 0 "$out" 'Running training')
[ "$(wc -l <scored/predictions.jsonl)" = "$(wc -l <uk/prepared/private/test.jsonl)" ] || reason="expected a prediction for each test record"
say train "$reason"
run eval --config uk/cohort.yaml --checkpoint trained --test-file uk/prepared/private/validation.jsonl --max-length 128 --prediction-output-dir validated
run report --predictions scored/predictions.jsonl --validation validated/predictions.jsonl --cohort uk/prepared/share --output page
reason=$(why 0 page/metrics.json '"name": "prevent_chd"')
for part in 'Decisions at a threshold' 'Beside other scores' 'Subgroups' 'Who is in the study' 'Checks for leakage' 'Reporting checklist'; do
    grep -q "$part" page/report.html || reason="no part \"$part\""
done
! grep -qwFf eids page/report.html || reason="an id in the report"
! grep -qE '<script|https?://[^w]' page/report.html || reason="something from elsewhere in the page"
say report "$reason"
exit $fails
