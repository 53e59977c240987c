#!/usr/bin/env bash
# From a catalogue to a trained, evaluated model and its report, step by step.
#   scripts/demo.sh demo   embedded catalogue, within 15 minutes on two cores
#   scripts/demo.sh full   embedded catalogue, longer
#   scripts/demo.sh real   MANIFEST=... any catalogue, texts cut at TEXT_LENGTH (32) pieces
# Every step can be run again: what is finished is kept, training goes on where it was.
set -euo pipefail
variant=${1:?demo, full or real}
out=${OUT:-demo}
start=$(date +%s)

say() { echo "== [$(($(date +%s) - start)) s] $*"; }

precision=$("$(dirname "$0")/precision.sh")

aligned=no
prepare=(--coarse_patch_size=224)  # what tells the rotations; features cost a third more
gallery=()
train=(--precision=$precision --batch_size=128 --weight_decay=0.05)
longer=(--model=small --learning_rate=1.5e-3 --num_steps=3000 --steps_per_round=200
        --validation_examples=1024 --hard_rate=0.5 --hard_start=1600)
case $variant in
demo)
  products=1800
  train+=(--model=tiny --learning_rate=2e-3 --num_steps=900 --steps_per_round=100
          --text_length=64)
  lists=(--num_queries=100 --num_lists=1)
  gallery=(--max_full_pairs=30000)  # scoring all pairs would take longer than training
  ;;
full)
  products=8000  # rotation asks for pictures more than for steps
  aligned=yes
  train+=("${longer[@]}" --text_length=64)
  lists=(--num_queries=100 --num_lists=5)
  ;;
real)
  manifest=${MANIFEST:?MANIFEST=path of manifest.jsonl or .csv}
  train+=("${longer[@]}" --text_length="${TEXT_LENGTH:-32}")
  lists=(--num_queries=100 --num_lists=5)
  ;;
*)
  echo "The variant should be demo, full or real. Received: $variant" >&2
  exit 1
  ;;
esac

if [ "$variant" != real ]; then
  manifest=$out/catalogue/manifest.jsonl
  say "drawing the catalogue"
  python -m data_prep.catalogue --output_dir="$out/catalogue" --num_products=$products
fi
if [ $aligned = yes ]; then
  say "the captioner whose heat maps align words with patches"
  python -m data_prep.show_attend_tell --manifest="$manifest" \
    --output_dir="$out/sat"
  prepare+=(--alignments="$out/sat")
fi
say "preparing: pictures -> patches -> features -> records"
python -m data_prep.prepare --manifest="$manifest" --output_dir="$out/data" \
  "${prepare[@]}"
say "pre-training"
python run_pretrain.py --data_dir="$out/data" --run_dir="$out/run" "${train[@]}"
say "candidate lists"
python -m data_prep.retrieval_lists --data_dir="$out/data" \
  --output_dir="$out/lists" "${lists[@]}"
evaluate() {  # SCORE FOLDER
  python run_finetune.py --task=retrieval --mode=evaluate --data_dir="$out/data" \
    --checkpoint="$out/run" --lists_dir="$out/lists" --score="$1" \
    --output_dir="$out/$2" --precision=$precision "${lists[@]}" "${gallery[@]}"
}
say "zero-shot retrieval by the matching head"
evaluate match retrieval
say "zero-shot retrieval by the matching head and the vectors before fusion together"
evaluate both retrieval_both
say "one picture, its locked box and its patches"
one=$(python - "$manifest" <<'PYTHON'
import sys
from data_prep import sources
products = sources.read_manifest(sys.argv[1], sources.SkipList())
product = next(p for p in products if p.split == "validation")
print(product.image_path, " ".join(product.text.split()), sep="\n")
PYTHON
)
image=${one%%$'\n'*} text=${one#*$'\n'}
python -m data_prep.show_patches --image="$image" --output="$out/report/patches.png"
if [ $aligned = yes ]; then
  say "its words, their heat maps and the patches aligned with them"
  python -m data_prep.show_alignments --image="$image" --text="$text" \
    --sat="$out/sat" --output="$out/report/alignments.png"
fi
say "report"
baseline=()
if [ "$variant" != demo ]; then
  python -m benchmarks.retrieval_baseline --data_dir="$out/data" \
    --manifest="$manifest" --lists_dir="$out/lists" --output="$out/baseline.json" \
    "${lists[@]}"
  baseline=(--baseline="$out/baseline.json")
fi
python -m kaleido_tf.report --run_dir="$out/run" \
  --retrieval="$out/retrieval_both/retrieval.json" --manifest="$manifest" \
  --output_dir="$out/report" "${baseline[@]}"
say "done: open $out/report/report.html"
