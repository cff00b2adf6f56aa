#!/usr/bin/env bash
# repro.sh STAGE LOG [GPUS]: bring one DVC stage up to date, its output in LOG; see repro.py.
set -u
export PATH="$PATH:$PWD/.venv/bin" # in a container the caller's environment is not on PATH
exec python3 -ES "$(dirname "$0")/repro.py" "$@"
