#!/usr/bin/env bash
# From a catalogue to a trained, evaluated model and its report, step by step.
#   scripts/demo.sh demo   embedded catalogue, within 15 minutes on two cores
#   scripts/demo.sh full   embedded catalogue, longer
#   scripts/demo.sh real   MANIFEST=... any catalogue
# Every step can be run again: what is finished is kept, training goes on where it was.
set -euo pipefail
variant=${1:?demo, full or real}
out=${OUT:-demo}
start=$(date +%s)

say() { echo "== [$(($(date +%s) - start)) s] $*"; }

case $variant in
demo)
  products=1200
  train=(--model=tiny --text_length=64 --batch_size=128 --num_steps=1000
         --steps_per_round=100 --learning_rate=2e-3)
  lists=(--num_queries=100 --num_lists=1)
  ;;
full)
  products=6000
  train=(--model=small --text_length=64 --batch_size=128 --num_steps=6000
         --steps_per_round=250 --learning_rate=1e-3 --hard_rate=0.5 --hard_start=2000)
  lists=(--num_queries=300 --num_lists=5)
  ;;
real)
  manifest=${MANIFEST:?MANIFEST=path of manifest.jsonl or .csv}
  train=(--model=small --text_length=32 --batch_size=128 --num_steps=6000
         --steps_per_round=250 --learning_rate=1e-3 --hard_rate=0.5 --hard_start=2000)
  lists=(--num_queries=300 --num_lists=5)
  ;;
*) echo "the variant should be demo, full or real. Received: $variant" >&2; exit 1 ;;
esac

if [ "$variant" != real ]; then
  manifest=$out/catalogue/manifest.jsonl
  say "drawing the catalogue"
  python -m data_prep.catalogue --output_dir="$out/catalogue" --num_products=$products
fi
say "preparing: pictures -> patches -> features -> records"
python -m data_prep.prepare --manifest="$manifest" --output_dir="$out/data"
say "pre-training"
python run_pretrain.py --data_dir="$out/data" --run_dir="$out/run" "${train[@]}"
say "candidate lists"
python -m data_prep.retrieval_lists --data_dir="$out/data" \
  --output_dir="$out/lists" "${lists[@]}"
say "zero-shot retrieval"
python run_finetune.py --task=retrieval --mode=evaluate --data_dir="$out/data" \
  --checkpoint="$out/run" --lists_dir="$out/lists" --output_dir="$out/retrieval"
say "report"
baseline=()
if [ "$variant" != demo ]; then
  python -m benchmarks.retrieval_baseline --data_dir="$out/data" \
    --manifest="$manifest" --lists_dir="$out/lists" --output="$out/baseline.json"
  baseline=(--baseline="$out/baseline.json")
fi
python -m kaleido_tf.report --run_dir="$out/run" \
  --retrieval="$out/retrieval/retrieval.json" --manifest="$manifest" \
  --output_dir="$out/report" "${baseline[@]}"
say "done: open $out/report/index.html"
