#!/usr/bin/env bash
# repro.sh STAGE LOG [GPUS]: bring one DVC stage up to date, its output in LOG; see repro.py.
set -u
export PATH="$PATH:$PWD/.venv/bin" # in a container the caller's environment is not on PATH
# -B: on a full disk Python may leave half a file of bytecode behind, which it later trips over
exec python3 -BES "$(dirname "$0")/repro.py" "$@"
