#!/usr/bin/env bash
# run_all.sh [part ...]: everything on a machine with an NVIDIA GPU, about six minutes on an H100; results.jsonl and log
# go to $OUT (default: here). Parts: check order layer layout limits profile.
cd "$(dirname "$0")" || exit 1
export OUT=${OUT:-$PWD} PYTHONUNBUFFERED=1
run() { echo "== $*"; timeout "${LIMIT:-120}" "$@" || echo "FAILED $? $*"; }
check() { run python3 check.py cuda; }
order() { for s in ordering launches appends slices uploads results; do run python3 measure_order.py $s; done; }
layer() { LIMIT=200 run python3 measure_layer.py; }
layout() { run python3 measure_layout.py; }
limits() {  # MLX ends a CUDA graph after 1000 Mi elements of input; see README.md
  MLX_MAX_MB_PER_BUFFER=1000000 run python3 measure_order.py launches
  MLX_MAX_MB_PER_BUFFER=1000000 run python3 measure_layer.py steps
}
profile() {
  run ncu --clock-control none --csv --kernel-name regex:custom_kernel --log-file "$OUT/ncu.csv" \
    --metrics gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum python3 measure_layer.py once
}
{
  run nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv
  for part in "${@:-check order layer layout limits profile}"; do for p in $part; do $p; done; done
} 2>&1 | tee "$OUT/log"
