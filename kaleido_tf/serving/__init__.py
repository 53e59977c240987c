"""Serving: a trained model as a SavedModel that answers from a picture and a sentence.

`export` writes it, `server` answers requests where TensorFlow Serving isn't at hand.
"""
