#!/usr/bin/env bash
# A search page on a demo's model and catalogue.
#   OUT=demo scripts/search_demo.sh
#   OUT=demo-real MANIFEST=... PORT=7860 scripts/search_demo.sh
# OUT is the folder that `make demo` (or demo-full, demo-real) left. Runs that were
# fine-tuned into OUT/finetune are exported with it: their labels and captions are shown,
# and retrieval's checkpoint searches. Every step can be run again: an export of the same
# checkpoints is kept, and the index computes only what is new.
set -euo pipefail
out=${OUT:-demo}
manifest=${MANIFEST:-$out/catalogue/manifest.jsonl}
start=$(date +%s)

say() { echo "== [$(($(date +%s) - start)) s] $*"; }

if [ ! -d "$out/run/checkpoints" ] || [ ! -f "$out/data/dataset_info.json" ]; then
  echo "$out should be the folder of a finished demo, with run/ and data/. Received:" \
    "no such folders (make demo makes them)" >&2
  exit 1
fi
if [ ! -f "$manifest" ]; then
  echo "MANIFEST should be the catalogue that $out/data was made from. Received:" \
    "$manifest, which isn't there" >&2
  exit 1
fi

checkpoint=$out/run
if [ -d "$out/finetune/retrieval/checkpoints" ]; then
  checkpoint=$out/finetune/retrieval
fi
flags=(--checkpoint="$checkpoint" --data_info="$out/data/dataset_info.json")
for task in category subcategory captioning; do
  if [ -d "$out/finetune/$task/checkpoints" ]; then
    flags+=(--"${task}"_checkpoint="$out/finetune/$task")
  fi
done
# What the export is made of: another checkpoint, or one trained further, is another.
made_of=$out/served/made_of.txt
recipe() {
  local flag
  echo "${flags[*]}"
  cksum "$out/data/dataset_info.json"
  for flag in "${flags[@]}"; do
    case $flag in
    *checkpoint=*) find "${flag#*=}/" -name '*.index' -exec cksum {} + | sort ;;
    esac
  done
}
if [ -f "$made_of" ] && [ "$(recipe)" = "$(cat "$made_of")" ]; then
  say "the export is there: $out/served"
else
  say "exporting"
  python -m kaleido_tf.serving.export "${flags[@]}" --output_dir="$out/served"
  recipe > "$made_of"
fi
say "indexing: features from the prepared data, the rest by the export"
python -m kaleido_tf.search.index --export="$out/served" --manifest="$manifest" \
  --data_dir="$out/data" --index_dir="$out/index" --replace
say "search page; Ctrl-C ends it"
exec python -m kaleido_tf.search.page --export="$out/served" --index_dir="$out/index" \
  --port="${PORT:-7860}"
