"""The peer of `benchmarks/train_step.py`: Hugging Face's VisualBERT in PyTorch.

A process of its own in an environment of its own, which holds torch and transformers
but nothing of ours. Reads a JSON request a line, answers with a JSON line: see
`step_process.py`.
"""

import json
import os
import sys
import time

import numpy as np
import torch
import transformers
from transformers import VisualBertConfig, VisualBertForPreTraining

_TYPES = {"float32": torch.float32, "mixed_bfloat16": torch.bfloat16}


def make_model(sizes):
    """VisualBERT of our layers' sizes, with its own pre-training heads."""
    return VisualBertForPreTraining(
        VisualBertConfig(
            vocab_size=sizes["vocab_size"],
            hidden_size=sizes["hidden_size"],
            num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"],
            intermediate_size=sizes["intermediate_size"],
            visual_embedding_dim=sizes["patch_feature_size"],
            hidden_act="gelu_new" if sizes["gelu"] == "tanh" else "gelu",
        )
    )


def make_inputs(batch):
    """Our batch as the model's arguments; padded to its longest text."""
    length = int(batch["input_mask"].sum(axis=1).max())
    rows, patches = batch["patch_features"].shape[:2]
    places, hidden = batch["masked_lm_positions"], batch["masked_lm_ids"]
    labels = np.full((rows, length + patches), -100)
    np.put_along_axis(labels, places, hidden, axis=1)
    text = {
        "input_ids": batch["input_word_ids"][:, :length],
        "attention_mask": batch["input_mask"][:, :length],
        "token_type_ids": batch["input_type_ids"][:, :length],
        "visual_attention_mask": np.ones((rows, patches)),
        "visual_token_type_ids": np.ones((rows, patches)),
        "labels": labels,
        "sentence_image_labels": batch["itm_labels"],
    }
    inputs = {k: torch.from_numpy(v.astype(np.int64)) for k, v in text.items()}
    inputs["visual_embeds"] = torch.from_numpy(batch["patch_features"])
    return inputs


class Peer:
    """The model with what a step needs; one request after the other."""

    def make(self, request):
        torch.set_num_threads(request["threads"])
        torch.manual_seed(0)
        self.model = make_model(request["sizes"])
        self.precision = request["precision"]
        self.training = request["work"] == "train"
        if self.training:
            self.model.train()
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        else:
            self.model.eval()
        return {
            "name": f"Hugging Face VisualBERT, PyTorch {torch.__version__}, "
            f"transformers {transformers.__version__}",
            "threads": torch.get_num_threads(),
        }

    def step(self, request):
        with np.load(request["batch"]) as file:
            inputs = make_inputs({key: file[key] for key in file.files})
        dtype = _TYPES[self.precision]
        mixed = torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32)
        start = time.perf_counter()
        with mixed:
            value = self._train(inputs) if self.training else self._score(inputs)
        if self.training:
            value.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return {"seconds": time.perf_counter() - start, "value": float(value)}

    def _train(self, inputs):
        return self.model(**inputs).loss

    @torch.inference_mode()
    def _score(self, inputs):
        """The matching score alone: no word is predicted for it."""
        inputs = {k: v for k, v in inputs.items() if "labels" not in k}
        pooled = self.model.visual_bert(**inputs).pooler_output
        scores = self.model.cls.seq_relationship(pooled)
        return scores[:, 1].sum()

    def memory(self, request):
        del request
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak_megabytes": peak / 1024}


def main():
    # What libraries print goes to the error stream: the answers stay alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(peer, request["do"])(request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
