"""From pictures and sentences to batches of features and tokens."""
