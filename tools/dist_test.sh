#!/usr/bin/env bash
# Usage: dist_test.sh CONFIG CHECKPOINT PROCESSES [options of test.py]
# One process per GPU; without a GPU, the processes share the CPU.
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "Usage: dist_test.sh CONFIG CHECKPOINT PROCESSES [options of test.py]" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
arguments=("$config" "$checkpoint")
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "${arguments[@]}" --launcher pytorch "$@"
