"""Port: weights from elsewhere -> our models, proven number by number.

Stands beside the line: `easytransfer` (the original release) and `bert` (Google's and
Hugging Face's) convert, `initial` recognises what a checkpoint is and loads it.
"""
