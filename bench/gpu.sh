#!/bin/bash
# The whole GPU check in under 9 minutes: correctness, physics, training, time to reward, peers.
# Results go to bench/results/gpu-*.json, or to the folder given with --out. PYTHON is the interpreter.
cd "$(dirname "$0")/.." || exit
exec "${PYTHON:-python3}" -m bench.gpu "$@"
