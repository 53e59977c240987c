"""Parts of Show, Attend and Tell (section 3.3): grids, words, model, training."""
