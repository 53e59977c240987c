"""Measurements that stand beside the model's own; each runs with one command."""
