#!/usr/bin/env bash
# 157-object Twenty Questions from nothing: supervised start, online ArCHer, 1,000 held-out games. Usage: [SEED [FOLDER]]
set -euo pipefail
seed=${1:-0}
run=${2:-runs/twenty-questions-$seed}
archer train --env twenty-questions --run "$run" --seed "$seed" --set threads=1
archer evaluate "$run" --episodes 1000 --json
