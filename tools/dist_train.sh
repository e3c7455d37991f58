#!/usr/bin/env bash
# Usage: dist_train.sh CONFIG PROCESSES [options of train.py]
# One process per GPU; without a GPU, the processes share the CPU.
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "Usage: dist_train.sh CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
config=$1 processes=$2
shift 2
arguments=("$config")
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$processes" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "${arguments[@]}" --launcher pytorch "$@"
