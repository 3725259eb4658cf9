#!/usr/bin/env bash
# Measures on a GPU, offline, in some minutes: bench/gpu.sh [--smoke]
#
# The machine has torch, timm, transformers and grpcio. What else is needed is carried as wheels in .wheels/, which
# bench/gpu_wheels.sh gathers beforehand where there is a network. Results are written to the folder $OUT, if it is set.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
# A machine where lensmesh is installed needs none of them.
needed='open_clip pydantic_settings structlog grpc_health opentelemetry'
if ! "$PYTHON" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))' $needed; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .wheels/*.whl
fi
# Carried packages go before those of the machine: contracts need a new enough protobuf.
export PYTHONPATH=$site:$PWD:$PWD/gen PYTHONUNBUFFERED=1
exec_arguments=("$@")
[ -z "${OUT:-}" ] || exec_arguments+=(--out "$OUT")
"$PYTHON" -m bench.gpu "${exec_arguments[@]}"
