#!/bin/sh
# job.sh COUNTS NAME LIMIT COMMAND…: runs one part of the tests for at most LIMIT seconds, tells how it ended, and adds a line
# `PASSED FAILED SKIPPED` to COUNTS. It counts the lines ok, not ok, skip (ok … # SKIP); an exit code that no line explains is a failure.
counts=$1 name=$2 limit=$3
shift 3
log=$(mktemp)
trap 'rm -f "$log"' EXIT
begun=$(date +%s)
timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null
code=$?
skipped=$(grep -cE '^(skip |(not )?ok [0-9]+ # SKIP)' "$log")
failed=$(grep -E '^not ok ' "$log" | grep -cvE '^not ok [0-9]+ # SKIP')
passed=$(grep -E '^ok ' "$log" | grep -cvE '^ok [0-9]+ # SKIP')
why=
if [ $code != 0 ] && [ "$failed" = 0 ]; then
    failed=1
    why=" (exit code $code)"
fi
[ $code != 0 ] || [ $((passed + failed + skipped)) -gt 0 ] || passed=1
echo "$passed $failed $skipped" >>"$counts"
told="$name: $passed passed, $failed failed, $skipped skipped$why, $(($(date +%s) - begun)) s"
[ "$failed" = 0 ] || told="$told
$(sed 's/^/    /' "$log" | tail -n 60)"
printf '%s\n' "$told"
