"""The printed table of retrieval: ours beside chance, the published figures apart."""

# The paper's table 2 on Fashion-Gen, fine-tuned; its old candidate lists have flaws of
# their own, so these stand beside our figures for orientation only.
PUBLISHED = {
    "source": "Kaleido-BERT, CVPR 2021, on Fashion-Gen, 101 candidates",
    "itr": {"rank@1": 27.99, "rank@5": 60.09, "rank@10": 68.37},
    "tir": {"rank@1": 33.88, "rank@5": 60.60, "rank@10": 68.59},
}
_KEYS = ("rank@1", "rank@5", "rank@10")
_TITLES = {"itr": "ITR image -> text", "tir": "TIR text -> image"}


def format_table(results):
    """The content of `retrieval.json` as lines of text."""
    sampled = results["sampled"]
    lines = [f"{'':44}  Rank@1        Rank@5        Rank@10"]
    for direction, title in _TITLES.items():
        lines += _sampled_rows(title, sampled[direction])
    total = sampled["sum_of_recalls"]
    lines.append(f"SumR {total['mean']:.2f} +- {total['std']:.2f}")
    lines.append(_pairs_row(results["pairs"]))
    lines += _gallery_rows(results["full_gallery"])
    lines.append(f"Theirs, on another data set ({PUBLISHED['source']}):")
    lines += [_row(f"  {_TITLES[d]}", PUBLISHED[d]) for d in _TITLES]
    trained = f"; {results['trained']}" if "trained" in results else ""
    lines.append(
        f"Score: {results['score']}{trained}. Recalls in percent; ties count against."
    )
    return "\n".join(lines)


def _row(title, recalls):
    return f"{title:44}" + "".join(f"  {recalls[k]:<12.2f}" for k in _KEYS)


def _sampled_rows(title, figures):
    first = figures["lists"][0]
    means = "".join(
        f"  {figures[k]['mean']:.2f} +- {figures[k]['std']:.2f}".ljust(14)
        for k in _KEYS
    )
    size = f"{first['num_queries']} x {first['num_candidates']}"
    hashes = ", ".join(one["sha256"][:8] for one in figures["lists"])
    return [
        f"{f'{title}, {size}':44}{means}",
        _row("  chance", figures["chance"]),
        f"  lists {hashes}",
        *_negatives_row(figures["lists"]),
    ]


def _negatives_row(lists):
    """Where the negatives come from; none for figures of an earlier version."""
    shares = [one["negatives"] for one in lists if "negatives" in one]
    if not shares:
        return []
    sub, category, anywhere = (
        sum(share[name] for share in shares) / len(shares)
        for name in ("subcategory", "category", "anywhere")
    )
    return [
        f"  negatives: {sub:.1%} of the query's sub-category, {category:.1%} of its "
        f"category, {anywhere:.1%} from anywhere"
    ]


def _pairs_row(pairs):
    if not pairs["num_pairs"]:
        return "Pairs: none, the queries have but one text"
    accuracy = pairs["pair_accuracy"]
    shown = "no threshold" if accuracy is None else f"{accuracy:.4f} (chance 0.5)"
    return (
        f"{pairs['num_pairs']} pairs, half of them true: AUC {pairs['auc']:.4f}, "
        f"accuracy {shown}"
    )


def _gallery_rows(full):
    if "skipped" in full:
        return [f"Full gallery: skipped, {full['skipped']}"]
    first, lines = full.get("first_stage", {}), []
    for direction, title in _TITLES.items():
        figures = full[direction]
        title = f"{title}, full gallery, {figures['num_queries']}"
        lines += [_row(title, figures), _row("  chance", figures["chance"])]
        if first:
            lines.append(_row(f"  first stage, {first['score']}", first[direction]))
    lines.append(
        f"SumR {full['sum_of_recalls']:.2f} ({full['num_texts']} texts, "
        f"{full['num_images']} images)"
    )
    if full["num_without_partner"]:
        lines.append(
            f"{full['num_without_partner']} images have no text: no queries for ITR"
        )
    if first:
        lines.append(_stages_row(first))
    return lines


def _stages_row(first):
    if not first["rerank"]:
        return f"Full gallery ranked by the first stage alone ({first['score']})"
    found = ", ".join(f"{d.upper()} {first[d]['found']:.2f}" for d in _TITLES)
    return (
        f"Full gallery in two stages: {first['score']} finds {first['rerank']}, which "
        f"are ranked anew; it finds the partner of {found} percent"
    )
