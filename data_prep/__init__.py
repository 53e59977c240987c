"""Offline data preparation: images and texts to TFRecord shards, one station a file."""
