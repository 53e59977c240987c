"""The report of a run: curves, retrieval figures and ranked pictures on one page.

Last station of the line. Reads what the others left on disk: a run folder, the results
of `run_finetune.py --task=retrieval`, the catalogue's manifest and, if there is one, a
baseline's results. `inputs` loads and checks these, `curves` and `pictures` draw,
`sections` and `page` write HTML, `build` puts it together; `python -m
kaleido_tf.report` is the command.
"""
