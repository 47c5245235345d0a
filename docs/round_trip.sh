#!/usr/bin/env bash
# The steps of round_trip.md with a small budget, for the numbers that stand there. Run it in an empty folder:
#   bash <repository>/docs/round_trip.sh
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root
mkdir -p mine
study=(--config-dir mine surrogate=MultiONet dataset=robertson)
small=(trainer.epochs=10 trainer.evaluate_every=2 pruner=none "devices=[cpu,cpu]")
seeds="seeds=[1,2,3,4]"

python "$root/tune.py" "${study[@]}" "${small[@]}" trials=16 # 1 explore
python -m codes.certify "${study[@]}" k=1 "$seeds"
python -m codes.promote "${study[@]}"                                                # 2
python "$root/tune.py" "${study[@]}" "${small[@]}" search_space=fine trials=16 # 3 refine
python -m codes.certify "${study[@]}" search_space=fine k=1 "$seeds"
python -m codes.promote "${study[@]}" search_space=fine                              # 4
python "$root/train.py" "${study[@]}" trainer.epochs=10 trainer.evaluate_every=2     # 5
