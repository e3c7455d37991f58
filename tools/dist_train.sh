#!/usr/bin/env bash
# Usage: dist_train.sh CONFIG GPUS [options of train.py]
# On several machines, set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
config=$1 gpus=$2
shift 2
arguments=("$config")
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "${arguments[@]}" --launcher pytorch "$@"
