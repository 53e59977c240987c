"""Kaleido-BERT (CVPR 2021) in TensorFlow 2: fashion vision-language pre-training."""

__version__ = "0.1.0"
