#!/usr/bin/env bash
# The four tasks from a demo's pre-trained model: fine-tune, evaluate, report.
#   OUT=demo scripts/finetune.sh demo        within 30 minutes on two cores
#   OUT=demo-real MANIFEST=... scripts/finetune.sh real
# OUT is the folder that `make demo` (or demo-full, demo-real) left; what is made here
# lies in OUT/finetune. Every step can be run again: training goes on where it was.
set -euo pipefail
variant=${1:?demo or real}
out=${OUT:-demo}
start=$(date +%s)

say() { echo "== [$(($(date +%s) - start)) s] $*"; }

if [ ! -d "$out/run/checkpoints" ] || [ ! -d "$out/lists" ]; then
  echo "$out should be the folder of a finished demo, with run/ and lists/. Received:" \
    "no such folders (make demo makes them)" >&2
  exit 1
fi
precision=$("$(dirname "$0")/precision.sh")
manifest=${MANIFEST:-$out/catalogue/manifest.jsonl}
tuned=$out/finetune
num_lists=$(find "$out/lists" -name 'itr_*.json' | wc -l)
lists=(--lists_dir="$out/lists" --num_lists="$num_lists" --num_queries=100
       --max_full_pairs=30000)
if [ ! -f "$manifest" ] || [ ! -f "$out/retrieval_both/retrieval.json" ]; then
  echo "MANIFEST should name the manifest that $out was made from, and $out hold" \
    "retrieval_both/retrieval.json. Received: $manifest, and one of the two is no file" >&2
  exit 1
fi
truth=()
if [ -d "$out/catalogue/truth" ]; then truth=(--truth="$out/catalogue/truth"); fi
case $variant in
demo) retrieval=600 category=200 subcategory=400 captioning=1200 mask_all=600 ;;
real) retrieval=1000 category=400 subcategory=800 captioning=1500 mask_all=800 ;;
*)
  echo "The variant should be demo or real. Received: $variant" >&2
  exit 1
  ;;
esac

train() {  # TASK FOLDER STEPS FLAGS...
  local task=$1 folder=$2 steps=$3
  shift 3
  say "$task: training ($folder)"
  python run_finetune.py --task="$task" --mode=train --data_dir="$out/data" \
    --run_dir="$tuned/$folder" --init_checkpoint="$out/run" --num_steps="$steps" \
    --steps_per_round=100 --precision="$precision" "$@"
}
evaluate() {  # TASK FOLDER RESULTS FLAGS...
  local task=$1 folder=$2 results=$3
  shift 3
  say "$task: evaluation ($results)"
  python run_finetune.py --task="$task" --mode=evaluate --data_dir="$out/data" \
    --checkpoint="$tuned/$folder" --output_dir="$tuned/results/$results" \
    --precision="$precision" "$@"
}

# Whether the training split has two classes of a kind: categories, subcategories.
has_classes() {
  python - "$out/data/dataset_info.json" "$1" <<'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    sys.exit(len(json.load(file)[sys.argv[2]]) < 2)
PYTHON
}
recognised=()
recognise() {  # TASK KIND STEPS FLAGS...
  local task=$1 kind=$2 steps=$3
  shift 3
  if ! has_classes "$kind"; then
    say "$task: left out, the catalogue has fewer than two $kind"
    return
  fi
  train "$task" "$task" "$steps" "$@"
  evaluate "$task" "$task" "$task"
  recognised+=(--"$task"="$tuned/results/$task/$task.json")
}

recognise category categories $category --batch_size=64 --learning_rate=5e-4
recognise subcategory subcategories $subcategory --batch_size=64 --learning_rate=1e-3
# Ranks rise while the rate falls, at the end: no early stop.
train retrieval retrieval $retrieval --batch_size=192 --learning_rate=5e-4 --patience=0
evaluate retrieval retrieval retrieval_match --score=match "${lists[@]}"
evaluate retrieval retrieval retrieval_both --score=both "${lists[@]}"
# Without hidden words a small catalogue's texts are known by heart after 300 steps.
train captioning captioning $captioning --batch_size=64 --learning_rate=1e-3 \
  --word_dropout=0.5 --weight_decay=0.05
evaluate captioning captioning captioning "${truth[@]}"
train captioning captioning_mask_all $mask_all --batch_size=64 --learning_rate=1e-3 \
  --objective=mask_all
evaluate captioning captioning_mask_all captioning_mask_all --decoding=mask_all \
  "${truth[@]}"
if [ ${#recognised[@]} -gt 0 ]; then
  say "the classifiers' baseline: logistic regression on the whole picture's features"
  python -m benchmarks.classification_baseline --data_dir="$out/data" \
    --manifest="$manifest" --output="$tuned/results/class_baseline.json"
  recognised+=(--class_baseline="$tuned/results/class_baseline.json")
fi
say "report"
baseline=()
if [ -f "$out/baseline.json" ]; then baseline=(--baseline="$out/baseline.json"); fi
python -m kaleido_tf.report --run_dir="$out/run" \
  --retrieval="$out/retrieval_both/retrieval.json" --manifest="$manifest" \
  --finetuned="$tuned/results/retrieval_both/retrieval.json" \
  "${recognised[@]}" \
  --captioning="$tuned/results/captioning/captioning.json" \
  --captioning_baseline="$tuned/results/captioning_mask_all/captioning.json" \
  --output_dir="$out/report" "${baseline[@]}"
say "done: open $out/report/report.html"
