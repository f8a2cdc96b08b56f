#!/bin/sh
# A disk without room: the checkpoint is not there at all, earlier ones stay whole, training goes on with a warning and ends after the third failure in a row.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 24
train 1 calm --max-steps 4 --save-strategy steps --save-steps 1 || say calm "a run with room failed"
want=$(digest calm)

# ---- a limit on the size of a file, between the model and the state: every checkpoint fails, the model at the end does not ----
blocks=$(($(size_of calm/last/state.h5) * 3 / 4 / 512))
cp -r calm limited
rm -rf limited/checkpoint-[234] limited/last
(ulimit -f $blocks && train 1 limited --max-steps 4 --save-strategy steps --save-steps 2 --resume-from-checkpoint auto)
code=$?
reason=
[ $code = 0 ] || reason="exit code: expected 0, found $code;"
for k in 2 4; do [ "$(grep -c "^cadtrain: warning: checkpoint-$k was not written" "$log")" = 1 ] || reason="$reason no warning about checkpoint-$k;"; done
[ "$(digest limited)" = "$want" ] || reason="$reason other bits;"
left=$(find limited -maxdepth 1 \( -name 'checkpoint-[234]' -o -name '*tmp*' \))
[ -z "$left" ] || reason="$reason left behind: $left;"
say training_goes_on "$reason"
train 2 limited --gradient-accumulation-steps 1 --max-steps 4 --resume-from-checkpoint limited/checkpoint-1 --output-dir again
say the_earlier_checkpoint_is_whole "$([ "$(digest again)" = "$(digest calm)" ] || echo "other bits")"

(ulimit -f $blocks && train 1 third --max-steps 9 --save-strategy steps --save-steps 1)
code=$?
reason=
[ $code = 6 ] || reason="exit code: expected 6, found $code;"
[ "$(steps_of third)" = "1 2 3" ] || reason="$reason expected an end after step 3, logged $(steps_of third);"
[ "$(grep -c '^cadtrain: error: ' "$log")" = 1 ] || reason="$reason not one sentence;"
say the_third_failure_ends_the_run "$reason"

(ulimit -f 8 && train 1 tiny --max-steps 2)
code=$?
say no_room_for_the_model "$([ $code = 6 ] && [ "$(grep -c '^cadtrain: error: .*tiny' "$log")" = 1 ] || echo "exit code $code, $(grep -c '^cadtrain: error: .*tiny' "$log") sentences that name the folder")"

# ---- a file system without room ----
disk=$scratch/disk
mkdir "$disk"
if [ "$(id -u)" != 0 ] || ! mount -t tmpfs -o size=40m tmpfs "$disk" 2>/dev/null; then
    echo "skip full_file_system no right to mount one"
    exit $fails
fi
trap 'cd / && umount "$disk"; rm -rf "$scratch"' EXIT
train 2 disk/out --lr-scheduler-type constant --gradient-accumulation-steps 1 --max-steps 2 --save-strategy steps --save-steps 1
kept=$(find disk/out/checkpoint-1 disk/out/checkpoint-2 -type f -exec sha256sum {} + | sort | sha256sum)
dd if=/dev/zero of=disk/filler bs=64k 2>/dev/null
train 2 disk/out --lr-scheduler-type constant --gradient-accumulation-steps 1 --max-steps 3 --save-strategy steps --save-steps 1 --resume-from-checkpoint auto
code=$?
reason=
[ $code = 6 ] || reason="exit code: expected 6 (the model at the end has no room), found $code;"
[ "$(grep -c '^cadtrain: error: ' "$log")" = 1 ] || reason="$reason not one sentence;"
[ "$(find disk/out/checkpoint-1 disk/out/checkpoint-2 -type f -exec sha256sum {} + | sort | sha256sum)" = "$kept" ] || reason="$reason earlier checkpoints were changed;"
[ -z "$(find disk/out -name '*tmp*')" ] || reason="$reason left behind: $(find disk/out -name '*tmp*' | head -n 2 | tr '\n' ' ')"
say full_file_system "$reason"
rm disk/filler
train 2 disk/out --lr-scheduler-type constant --gradient-accumulation-steps 1 --max-steps 4 --save-strategy steps --save-steps 1 --resume-from-checkpoint auto
code=$?
train 2 straight --lr-scheduler-type constant --gradient-accumulation-steps 1 --max-steps 4
say room_again "$([ $code = 0 ] && [ "$(digest disk/out)" = "$(digest straight)" ] || echo "exit code $code, $(digest disk/out | cut -c1-12), expected $(digest straight | cut -c1-12)")"
exit $fails
