#!/bin/sh
# cohort.sh [PEOPLE [COLUMNS]]: prepare on a wide synthetic extract (default 150000 people x 2000 columns, above 2 GB) and on 500000 people with the
# predictors alone. One JSON object: speed of reading by the clock and by processor
# time (for machines in common use), seconds and peak memory of the whole. Aim: 200 MB/s, 1 GB, 300 s.
set -eu
cd "$(dirname "$0")/.."
: "${BUILD:=build}" "${PROGRAM:=$BUILD/cadtrain}" "${CASES:=$BUILD/benchmarks}"
people=${1:-150000} columns=${2:-2000}

# case NAME PEOPLE PADDING DIALECT: made once
make_case() {
    [ -f "$CASES/$1/truth.json" ] || "$PROGRAM" synth --output "$CASES/$1" --people "$2" --padding "$3" --dialect "$4" --seed 1 >/dev/null
}
# measure NAME FILE: the first file of the case read alone with warm pages, then the whole prepare
measure() {
    dir=$CASES/$1
    cat "$dir/$2" >/dev/null
    /usr/bin/time -f '%e %U %M' -o "$dir/time" "$PROGRAM" prepare --config "$dir/cohort.yaml" --set cohort.output_dir="$dir/out" >"$dir/log"
    speed=$(sed -n "s|.*$2: .* \([0-9]*\) MB/s, .*|\1|p" "$dir/log")
    work=$(sed -n "s|.*$2: .* \([0-9]*\) MB per processor.*|\1|p" "$dir/log")
    read -r seconds user kilobytes <"$dir/time"
    printf '"%s": {"bytes": %d, "read_mb_per_second": %s, "read_mb_per_processor_second": %s, "prepare_seconds": %s, "prepare_processor_seconds": %s, "peak_bytes": %d}' "$1" "$(stat -c %s "$dir/$2")" "$speed" "$work" "$seconds" "$user" $((kilobytes * 1024))
    rm -rf "$dir/out"
}

make_case wide "$people" $((columns - 12)) csv
make_case everybody 500000 0 mixed
printf '{%s, ' "$(measure wide ukb_basics.csv)"
printf '%s, ' "$(measure everybody ukb_visit.csv)"
head -n 20001 "$CASES/wide/ukb_basics.csv" | gzip -1 >"$CASES/wide/ukb_basics.csv.gz"
sed 's/ukb_basics.csv/ukb_basics.csv.gz/' "$CASES/wide/cohort.yaml" >"$CASES/wide/packed.yaml"
mv "$CASES/wide/cohort.yaml" "$CASES/wide/plain.yaml" && mv "$CASES/wide/packed.yaml" "$CASES/wide/cohort.yaml"
printf '"packed": {%s}}\n' "$(measure wide ukb_basics.csv.gz)"
mv "$CASES/wide/plain.yaml" "$CASES/wide/cohort.yaml"
rm -f "$CASES/wide/ukb_basics.csv.gz"
