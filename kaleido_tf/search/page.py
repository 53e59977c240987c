"""CLI: `python -m kaleido_tf.search.page` serves a search page on a catalogue's index.

By default for this machine alone (127.0.0.1). Nothing is loaded from elsewhere, nothing
is sent elsewhere.
"""

import io
import logging as python_logging
import os
import random
import time
import types

from absl import logging
from PIL import Image

from kaleido_tf import cli


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Serves a search page on a catalogue's index.")
    page.heading("Input")
    page.string(
        "export",
        None,
        "Folder of `python -m kaleido_tf.serving.export`, the one of the index.",
        required=True,
    )
    page.string(
        "index_dir",
        None,
        "Folder of `python -m kaleido_tf.search.index`.",
        required=True,
    )
    page.string(
        "pictures_dir",
        None,
        "Folder of the manifest, where it isn't any more where it was indexed.",
    )
    page.heading("Search")
    page.integer(
        "candidates",
        100,
        "Pictures or texts that the matching head ranks anew.",
        lower_bound=1,
        upper_bound=10_000,
    )
    page.integer("top_k", 24, "Products of an answer.", lower_bound=1, upper_bound=200)
    page.heading("Server")
    page.string("host", "127.0.0.1", "Address; 0.0.0.0 opens it to the network.")
    page.integer("port", 7860, "Port.", lower_bound=1, upper_bound=65535)
    return page


def _gradio():
    # Before the import: no version check, no statistics.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    python_logging.getLogger("httpx").setLevel(python_logging.WARNING)
    try:
        import gradio
    except ImportError as error:
        raise ValueError(
            "gradio should be installed for the page. Received: no such package "
            "(python -m pip install 'kaleido_tf[search]')"
        ) from error
    return gradio


def examples(engine, num_texts=4, num_pictures=10, seed=0):
    """(queries, (image_id, path, text) of pictures) to begin with, of the catalogue."""
    from kaleido_tf.search.page_markup import title_of

    rng, rows = random.Random(seed), engine.rows
    chosen = rng.sample(range(len(rows)), min(len(rows), 4 * num_pictures))
    texts = [title_of(rows[number].item.text).lower() for number in chosen]
    short = [text for text in texts if 8 <= len(text) <= 44]
    views = {}
    for number in chosen:
        item = rows[number].item
        if item.image:
            views.setdefault(item.subcategory or item.product_id, item)
    shown = [
        (item.image_id, engine.image_path(item.image_id), item.text)
        for item in list(views.values())[:num_pictures]
    ]
    return list(dict.fromkeys(short or texts))[:num_texts], shown


def build_page(engine, top_k=24):
    """The page as a `gradio.Blocks`, not yet launched.

    Args:
      engine: `SearchEngine`.
      top_k: products of an answer.

    Returns:
      (blocks, dict of arguments for its `launch`).
    """
    gr = _gradio()
    from kaleido_tf.search import page_style
    from kaleido_tf.search.page_events import PageEvents

    options = {
        "title": "Catalogue search",
        "analytics_enabled": False,
        "delete_cache": (3600, 3600),  # uploads, every hour those of an hour ago
    }
    with gr.Blocks(**options) as blocks:
        _connect(gr, PageEvents(engine, top_k), _components(gr, engine))
    theme = gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="lg",
        font=page_style.FONTS,
        font_mono=["ui-monospace", "monospace"],
    )
    return blocks, {"theme": theme, "css": page_style.CSS, "footer_links": []}


def _components(gr, engine):
    """What stands on the page: a namespace of components."""
    from kaleido_tf.search import page_markup as markup
    from kaleido_tf.search import page_script

    page = types.SimpleNamespace(strip=None)
    texts, shown = examples(engine)

    def plain(value, script=page_script.PICK, **options):
        options |= {"elem_classes": "k-plain", "apply_default_css": False}
        return gr.HTML(value, js_on_load=script, **options)

    plain(markup.header(engine.num_products, len(engine.rows)), script=None)
    page.asked = gr.State(None, time_to_live=3600)
    with gr.Tabs():
        with gr.Tab("By description", id="text"):
            with gr.Row(elem_id="k-ask"):
                page.query = gr.Textbox(
                    label="What are you looking for?",
                    placeholder=f"such as: {texts[0]}",
                    elem_id="k-query",
                    max_lines=3,
                    scale=6,
                )
                page.search = gr.Button(
                    "Search", variant="primary", elem_id="k-search", scale=1
                )
            page.tries = plain(markup.chips(texts))
        with gr.Tab("By picture", id="picture"):
            page.upload = gr.File(
                label="A picture of a product (JPEG, PNG or WebP)",
                file_types=["image"],
                type="binary",
                elem_id="k-upload",
                height=120,
            )
            if shown:
                page.strip = plain(markup.strip(shown))
    page.results = plain("", elem_id="k-results")
    page.detail = plain("", script=page_script.DETAIL, elem_id="k-panel")
    return page


def _connect(gr, events, page):
    """What happens on the page."""

    def chosen_text(event: gr.EventData):
        return event.query, *events.by_text(event.query)

    def chosen_picture(event: gr.EventData):
        return events.by_product(event.image_id)

    def chosen_result(asked, event: gr.EventData):
        return events.explain(asked, event.image_id)

    quick = dict(show_progress="minimal", api_visibility="private")
    outputs = [page.asked, page.results]
    for listen in (page.query.submit, page.search.click):
        listen(events.by_text, page.query, outputs, **quick)
    page.tries.select(chosen_text, None, [page.query, *outputs], **quick)
    page.upload.upload(events.by_picture, page.upload, outputs, **quick)
    if page.strip:
        page.strip.select(chosen_picture, None, outputs, **quick)
    page.detail.like(chosen_picture, None, outputs, **quick)
    page.results.select(chosen_result, page.asked, page.detail, **quick)


def launch(blocks, look, host, port, block=True):
    """Starts the server: (address, the running blocks).

    Args:
      blocks, look: of `build_page`.
      host, port: where; ValueError where the port is taken.
      block: whether to stay until the process is ended.
    """
    try:
        _, address, _ = blocks.queue(default_concurrency_limit=2).launch(
            server_name=host,
            server_port=port,
            share=False,
            inbrowser=False,
            quiet=True,
            show_error=True,
            max_file_size="20mb",
            ssr_mode=False,
            prevent_thread_lock=True,
            enable_monitoring=False,
            **look,
        )
    except OSError as error:
        raise ValueError(
            f"`port` should be free. Received: {port} ({str(error)[:200]})"
        ) from error
    print(f"Search page: {address}", flush=True)
    if block:
        blocks.block_thread()
    return address


def warm_up(engine):
    """Asks once for everything: a signature's first call is slow, and no visitor's."""
    text, image_id = "a navy linen shirt", engine.rows[0].item.image_id
    engine.search_text(text)
    engine.describe(engine.search_like(image_id).features)
    engine.explain(text, image_id)
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(picture, "PNG")
    engine.search_image(picture.getvalue())


def main(settings):
    """Serves the page with a dict of flags."""
    _gradio()  # says at once where it is missing
    from kaleido_tf.search.engine import SearchEngine
    from kaleido_tf.search.exported import Export

    start = time.time()
    engine = SearchEngine(
        Export(settings["export"]),
        settings["index_dir"],
        settings["pictures_dir"],
        settings["candidates"],
    )
    warm_up(engine)
    blocks, look = build_page(engine, settings["top_k"])
    logging.info("ready after %.0f s", time.time() - start)
    launch(blocks, look, settings["host"], settings["port"])


if __name__ == "__main__":
    PAGE = flag_page()
    cli.run(lambda: main(PAGE.values()), PAGE)
