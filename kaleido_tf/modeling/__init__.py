"""The Kaleido-BERT model: embeddings, encoder, heads, losses, and their builders."""

from kaleido_tf.modeling.losses import pretraining_losses
from kaleido_tf.modeling.models import (
    build_captioner,
    build_classifier,
    build_encoder,
    build_matcher,
    build_pretrainer,
)

__all__ = [
    "build_captioner",
    "build_classifier",
    "build_encoder",
    "build_matcher",
    "build_pretrainer",
    "pretraining_losses",
]
