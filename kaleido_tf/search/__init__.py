"""Search in a catalogue with an exported model: the last station of the line.

catalogue -> `index` (features and vectors on disk) -> `engine` (two stages) -> `page`.
Reads an export by its signatures alone: no model is built here.
"""
