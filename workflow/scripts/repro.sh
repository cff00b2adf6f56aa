#!/usr/bin/env bash
# repro.sh STAGE LOG: bring one DVC stage up to date, its output in LOG; the end of LOG is shown where that fails.
# DVC's path locks do not wait (--wait-for-lock concerns only the repository's), so a lock error is tried again.
set -u
stage=$1
log=$2
export PATH="$PATH:$PWD/.venv/bin" # in a container the caller's environment is not on PATH

for attempt in 1 2 3 4 5 6 7 8; do
    dvc --wait-for-lock repro --single-item "$stage" >"$log" 2>&1 && exit 0
    status=$?
    grep -qE "Unable to acquire lock|is busy, it is being blocked by" "$log" || break
    sleep $((attempt + RANDOM % 3))
done

echo "$stage failed; the end of $log:" >&2
tail -n 30 "$log" >&2
exit "$status"
