"""The search page in a real browser, and the HTML that it is made of."""

import base64
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
from PIL import Image

from kaleido_tf.data.pictures import decode_picture
from kaleido_tf.search import page, page_pictures
from kaleido_tf.search import page_markup as markup
from kaleido_tf.search.builder import build_index
from kaleido_tf.search.engine import SearchEngine
from kaleido_tf.search.page_events import PageEvents

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # W3C's name of an element's reference


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Browser:
    """A headless Chromium by the WebDriver protocol, through urllib alone."""

    def __init__(self, profile, width=1280, height=900):
        port = free_port()
        self._process = subprocess.Popen(
            [CHROMEDRIVER, f"--port={port}"], stdout=subprocess.DEVNULL
        )
        self._root = f"http://127.0.0.1:{port}"
        self._session = ""
        self._wait_for_driver()
        arguments = (
            f"--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
            f"--disable-background-networking --disable-component-update "
            f"--disable-sync --disable-dev-shm-usage --user-data-dir={profile} "
            f"--window-size={width},{height}"
        )
        options = {"binary": CHROMIUM, "args": arguments.split()}
        wanted = {
            "alwaysMatch": {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            }
        }
        started = self.send("POST", "/session", {"capabilities": wanted})
        self._session = f"/session/{started['sessionId']}"

    def _wait_for_driver(self):
        for _ in range(100):
            try:
                return self.send("GET", "/status")
            except urllib.error.URLError:
                time.sleep(0.1)
        raise RuntimeError("chromedriver didn't start within 10 s")

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._root + self._session + path,
            data,
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["value"]

    def run(self, script, *arguments):
        body = {"script": script, "args": list(arguments)}
        return self.send("POST", "/execute/sync", body)

    def find(self, css):
        body = {"using": "css selector", "value": css}
        return self.send("POST", "/element", body)[_ELEMENT]

    def click(self, css):
        self.send("POST", f"/element/{self.find(css)}/click", {})

    def type(self, css, text):
        self.send("POST", f"/element/{self.find(css)}/value", {"text": text})

    def until(self, script, seconds=15):
        """Waits until a script gives something true; returns that."""
        end = time.time() + seconds
        while time.time() < end:
            if found := self.run(script):
                return found
            time.sleep(0.05)
        shown = self.run("return document.body.innerText")
        raise AssertionError(f"{script} should come true. The page shows: {shown}")

    def size(self, width, height):
        """A screen of another size, as a phone's."""
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 2 if width < 500 else 1,
            "mobile": width < 500,
        }
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self.send("POST", "/goog/cdp/execute", command)

    def screenshot(self):
        return base64.b64decode(self.send("GET", "/screenshot"))

    def hosts(self):
        """Hosts of all requests so far: set of str."""
        hosts = set()
        for entry in self.send("POST", "/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if url.startswith(("http", "ws")):
                    hosts.add(urllib.request.urlparse(url).hostname)
        return hosts

    def errors(self):
        """Errors of the page's scripts: list of str."""
        entries = self.send("POST", "/se/log", {"type": "browser"})
        return [e["message"] for e in entries if e["level"] == "SEVERE"]

    def close(self):
        try:
            self.send("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(10)


@pytest.fixture(scope="module")
def address(engine):
    blocks, look = page.build_page(engine, top_k=6)
    yield page.launch(blocks, look, "127.0.0.1", free_port(), block=False)
    blocks.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("chromium and chromedriver aren't installed: no browser to look in")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_type_search_click(browser, address, engine):
    browser.size(1280, 900)
    browser.send("POST", "/url", {"url": address})
    browser.until("return document.querySelector('#k-query textarea')")
    browser.type("#k-query textarea", "red dress")
    browser.click("#k-search")
    cards = "return [...document.querySelectorAll('.k-card')].map(c => c.dataset.image)"
    assert browser.until(cards + ".length && " + cards[7:])[:2] == ["a", "b"]
    wide = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert browser.run(wide)

    browser.click(".k-card")
    words = "[...document.querySelectorAll('.k-word')].map(w => w.innerText)"
    assert browser.until(f"return {words}.length && {words}") == ["red", "dress"]
    browser.click(".k-word")
    live = "return document.querySelector('.k-live').textContent"
    # The export's colours look at the last patch of level 2.
    assert "“red” answered most to row 2, column 2 of 2 × 2" in browser.run(live)
    # All but the box's lower right is darkened.
    heat = browser.run(
        "const c = document.querySelector('canvas'), x = c.getContext('2d');"
        "const at = (x0, y0) => x.getImageData(x0, y0, 1, 1).data[3];"
        "return [at(45, 45), at(10, 10), c.style.left, c.style.width]"
    )
    assert heat[0] == 0 and heat[1] > 150
    # Shown is the picture's part around the box, 0.12 of it more on each side.
    assert [float(v[:-1]) for v in heat[2:]] == pytest.approx([9.7, 80.6], abs=0.1)
    # Escape closes, and the focus is where it was; the same card opens again.
    browser.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    assert browser.run("return document.activeElement.dataset.image") == "a"
    browser.click(".k-card")
    browser.until("return document.querySelector('.k-detail')")


def test_phone_and_picture(browser, address, engine):
    browser.size(390, 844)
    browser.send("POST", "/url", {"url": address})
    browser.until("return document.querySelectorAll('[role=tab]').length >= 2")
    # A phone widens its layout, and so innerWidth, for what doesn't fit.
    fits = "return document.documentElement.scrollWidth <= 390 && innerWidth <= 390"
    assert browser.run(fits), "the page should not scroll sideways"
    browser.run("[...document.querySelectorAll('[role=tab]')].pop().click()")
    browser.until("return document.querySelector('#k-upload input[type=file]')")
    browser.type("#k-upload input[type=file]", engine.image_path("e"))
    facts = browser.until("return document.querySelector('.k-facts')?.innerText")
    assert "A red dress." in facts and "shoes" in facts
    assert "no sub-category" in facts
    first = "return document.querySelector('.k-card').dataset.image"
    assert browser.run(first) == "e"
    assert browser.run(fits), "the page should not scroll sideways"
    browser.click(".k-card")
    panel = browser.until(
        "return document.querySelector('.k-detail')?.getBoundingClientRect().width"
    )
    assert panel <= 390
    assert browser.hosts() == {"127.0.0.1"}, "nothing should be loaded from elsewhere"
    assert browser.errors() == []


def test_controls_have_names(browser, address):
    """What can be pressed or filled says to a screen reader what it is."""
    browser.send("POST", "/url", {"url": address})
    browser.until("return document.querySelector('#k-query textarea')")
    nameless = browser.run(
        "return [...document.querySelectorAll('button, input, textarea')].filter(e =>"
        "  e.offsetParent && !(e.innerText || '').trim()"
        "  && !e.ariaLabel && !e.title && !(e.labels && e.labels.length)"
        ").map(e => e.outerHTML.slice(0, 200))"
    )
    assert nameless == []


def test_bad_queries_are_explained(engine):
    events = PageEvents(engine)
    for query, said in (
        ("", "Type what you are looking for"),
        (None, "Type what you are looking for"),
        ("?!", "should hold a word"),
        ("x" * 20_000, "at most 10000 bytes"),
        ("x" * 6000, "should be under 5000 bytes"),  # the export's own refusal
    ):
        asked, shown = events.by_text(query)
        assert asked is None and said in shown and 'role="alert"' in shown
    for data, said in (
        (None, "Choose a picture"),
        (b"no picture", "can&#x27;t be used"),
        (b"", "1 to 20000000 bytes"),
    ):
        asked, shown = events.by_picture(data)
        assert asked is None and said in shown
    assert "one of the index" in events.by_product("nobody")[1]
    asked, _ = events.by_text("red")
    assert "one of the index" in events.explain(asked, "nobody")
    assert "search again" in events.explain(None, "a")


def test_text_is_escaped(engine):
    """A catalogue's text is no HTML, and no template of gr.HTML's."""
    assert markup.escaped("<b>{{x}} ${y}") == "&lt;b&gt;&#123;&#123;x}} &#36;&#123;y}"
    _, shown = PageEvents(engine).by_text("<script>red</script>")
    assert "<script" not in shown and "&lt;script&gt;red" in shown


def test_explains_the_side_that_was_asked(engine):
    events = PageEvents(engine)
    asked, _ = events.by_text("a red thing")
    assert ">thing</button>" in events.explain(asked, "a")
    with open(engine.image_path("a"), "rb") as file:
        asked, _ = events.by_picture(file.read())
    panel = events.explain(asked, "c")
    assert ">shirt</button>" in panel and "Your picture" in panel
    # By a product's own picture: not itself.
    asked, _ = events.by_product("a")
    assert "a" not in asked.hits and "b" in asked.hits


def test_an_index_without_pictures_has_a_page(export, make_data_set, tmp_path):
    make_data_set(tmp_path / "data")
    build_index(export, tmp_path / "index", data_dir=str(tmp_path / "data"))
    engine = SearchEngine(export, tmp_path / "index")
    queries, pictures = page.examples(engine)
    assert len(queries) == 4 and pictures == []
    blocks, _ = page.build_page(engine)
    blocks.close()
    asked, shown = PageEvents(engine).by_text("red shirt")
    assert shown.count('class="k-card"') == len(asked.hits) == 7
    panel = PageEvents(engine).explain(asked, next(iter(asked.hits)))
    assert ">shirt</button>" in panel and "data:image/jpeg" in panel


def test_a_small_object_is_shown_large():
    region = page_pictures.region_around([0.5, 0.2, 0.9, 0.3])
    np.testing.assert_allclose(region, [0.452, 0.152, 0.948, 0.348])
    assert page_pictures.region_around([0, 0, 1, 1]) == page_pictures.WHOLE
    assert page_pictures.region_around([0.05, 0.05, 0.9, 0.9]) == page_pictures.WHOLE
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[50:, :40] = 255
    data = cv2.imencode(".png", picture)[1].tobytes()
    uri = page_pictures.shown(data, 640, (0.5, 0.0, 1.0, 0.2))
    jpeg = base64.b64decode(uri.partition(",")[2])
    part = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert part.shape == (50, 40, 3) and part.min() > 250
    for side, height in ((25, 25), (100, 100)):
        uri = page_pictures.shown(data, side, (0.5, 0.0, 1.0, 0.2), enlarged=True)
        jpeg = base64.b64decode(uri.partition(",")[2])
        part = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert part.shape[0] == height
    for nothing in ("", b"no picture", "/nowhere.png"):
        assert page_pictures.shown(nothing, 9).startswith("data:image/jpeg")


def pixels_of(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB"), np.int32)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_the_page_shows_what_the_model_sees(kind, orientation):
    picture = np.full((64, 96, 3), 40, np.uint8)
    picture[:32, :32], picture[32:, 64:], picture[40:, :16] = (
        *((250, 30, 60), (30, 60, 250), (60, 250, 30)),
    )
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(buffer, kind, exif=exif, quality=95)
    model = decode_picture(buffer.getvalue()).numpy().astype(np.int32)
    height, width = model.shape[:2]
    assert (height > width) == (kind == "JPEG" and 5 <= orientation <= 8)
    for region in (page_pictures.WHOLE, (0.25, 0.5, 0.75, 1.0)):
        shown = pixels_of(page_pictures.shown(buffer.getvalue(), 96, region))
        y1, x1, y2, x2 = (
            round(v * s) for v, s in zip(region, 2 * (height, width), strict=True)
        )
        wanted = model[y1:y2, x1:x2]
        assert shown.shape == wanted.shape
        assert np.abs(shown - wanted).mean() < 6


@pytest.mark.parametrize(
    ("kind", "mode", "colour", "wanted"),
    [
        ("JPEG", "RGB", (200, 30, 60), (200, 30, 60)),
        ("JPEG", "L", 90, (90, 90, 90)),
        ("PNG", "RGB", (200, 30, 60), (200, 30, 60)),
        ("PNG", "RGBA", (200, 30, 60, 0), (255, 255, 255)),
        ("PNG", "LA", (0, 128), (127, 127, 127)),
        ("PNG", "P", 7, (255, 255, 255)),
        ("PNG", "1", 1, (255, 255, 255)),
        ("WEBP", "RGBA", (200, 30, 60, 255), (200, 30, 60)),
    ],
)
def test_large_pictures_are_shrunk_first(kind, mode, colour, wanted):
    buffer = io.BytesIO()
    large = Image.new(mode, (2000, 1200), colour)
    if mode == "P":
        large.putpalette(3 * list(range(256)))
    large.save(buffer, kind, **({"transparency": 7} if mode == "P" else {}))
    for region, shape in (
        (page_pictures.WHOLE, (60, 100)),
        ((0.0, 0.0, 0.5, 0.2), (100, 67)),
    ):
        found = pixels_of(page_pictures.shown(buffer.getvalue(), 100, region))
        assert found.shape == (*shape, 3)
        assert np.abs(found - wanted).max() <= 4
        with Image.open(buffer) as opened:
            part = page_pictures._part(opened, 100, region)
            assert 100 <= max(part.size) < 400 and part.mode == "RGB"
            if kind == "JPEG":  # never decoded at its full size
                assert opened.size[0] <= 1000


def test_title():
    assert markup.title_of("Navy shirt. Long sleeve.") == "Navy shirt"
    assert markup.title_of("Navy shirt.") == "Navy shirt"
    cut = markup.title_of("word " * 40)
    assert len(cut) < 95 and cut.endswith("word ...")


def test_a_taken_port_is_said(engine):
    blocks, look = page.build_page(engine)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="`port` should be free"):
            page.launch(blocks, look, "127.0.0.1", taken.getsockname()[1], block=False)
