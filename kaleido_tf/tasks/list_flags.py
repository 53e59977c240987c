"""Flags of the sampled retrieval protocol, for every command that measures by it."""


def add(page, max_full_pairs, lists_required=False):
    """Adds which candidate lists are read and whether the whole split is ranked too.

    Args:
      page: `cli.FlagPage`.
      max_full_pairs: the default of that flag.
      lists_required: the command does nothing without lists.
    """
    page.string(
        "lists_dir",
        None,
        "Folder of frozen candidate lists of this data set, made by `python -m "
        "data_prep.retrieval_lists --data_dir=PREPARED --output_dir=DIR`.",
        required=lists_required,
    )
    page.integer("num_lists", 5, "Lists for each direction: the seeds 0, 1, ...")
    page.integer("num_queries", 0, "Queries of each list, from its start; 0 is all.")
    page.integer(
        "max_full_pairs",
        max_full_pairs,
        "Pairs (texts x images) up to which the whole split is ranked too, by scoring "
        "every pair. A larger one is ranked in two stages where the model has vectors "
        "(their cosine finds candidates, the score ranks these anew), else left out. "
        "0: the whole split isn't ranked, and retrieval's --mode=predict is an error.",
    )
