"""The report of a run: curves, figures of the tasks and pictures on one page.

Last station of the line. Reads what the others left on disk: a run folder, the results
of `run_finetune.py` and of the baselines, the catalogue's manifest. `inputs` and
`task_inputs` load and check these; `curves`, `bars`, `confusion` (by `theme`) and
`pictures` draw; `sections`, `retrieval`, `ranked`, `classification` and `captioning`
write HTML (by `markup`); `build` puts it together; `python -m kaleido_tf.report` is the
command.
"""
