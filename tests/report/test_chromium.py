"""The page in a real browser: it fetches nothing, runs no text, plays, and draws what it should."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, find_chromium
from made import build_hostile
from unitcorpus.build.run import build_corpus
from unitcorpus.recipe import load_recipe
from unitcorpus.report.page import write_report

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install one, or name it in CHROMIUM"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    made = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def urls(small_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    pairs = folder / "pairs"
    assert build_corpus(load_recipe("demo/spokenswag", ("source.count=12",)), pairs).corpus
    hostile = build_hostile(tmp_path_factory.mktemp("hostile"))
    pages = {"corpus": small_corpus, "pairs": pairs, "hostile": hostile}
    for name, root in pages.items():
        write_report(root, folder / f"{name}.html", audio=name != "hostile")
    return {name: (folder / f"{name}.html").as_uri() for name in pages}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["corpus", "pairs"])
def test_it_fetches_nothing_fits_the_window_and_makes_no_errors(
    browser: Browser, urls: dict[str, str], name: str, width: int, theme: str
) -> None:
    browser.open(urls[name], width, 844, theme)
    browser.evaluate("document.querySelectorAll('summary').forEach(s => s.click())")
    browser.evaluate("document.querySelector('[data-mode=units]').click()")
    assert [url for url in browser.requests() if not url.startswith("data:")] == [urls[name]]
    assert browser.problems() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_follows_the_system_and_the_button(
    browser: Browser, urls: dict[str, str]
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(urls["corpus"], theme="light")
    light = browser.evaluate(ground)
    browser.evaluate("document.getElementById('theme').click()")
    dark = browser.evaluate(ground)
    assert light != dark
    browser.open(urls["corpus"], theme="dark")
    assert browser.evaluate(ground) == dark
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(ground) == light


CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (c) => { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
                       return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = (c) => rgb(c).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c !== "rgba(0, 0, 0, 0)") return c; } return "white"; };
  let least = [99, ""];
  for (const e of document.querySelectorAll(
    "p, dt, dd, th, td, button, summary, h1, h2, h3, b, li")) {
    if (!e.textContent.trim() || !e.offsetParent) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, e.className + e.tagName + e.textContent.slice(0, 40)];
  }
  return least;
})()"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(
    browser: Browser, urls: dict[str, str], theme: str
) -> None:
    browser.open(urls["pairs"], theme=theme)
    ratio, where = browser.evaluate(CONTRAST)
    assert ratio >= 4.5, where


def test_hostile_texts_run_nothing(browser: Browser, urls: dict[str, str]) -> None:
    browser.open(urls["hostile"])
    browser.evaluate("document.querySelectorAll('summary').forEach(s => s.click())")
    browser.evaluate("document.querySelectorAll('*').forEach(e => e.focus && e.focus())")
    assert browser.evaluate("window.ran === undefined")
    assert browser.problems() == []
    assert browser.requests() == [urls["hostile"]]


def test_a_script_that_got_in_would_be_refused(browser: Browser, urls: dict[str, str]) -> None:
    browser.open(urls["corpus"])
    browser.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); const i = new Image(); i.src = 'https://example.org/x.png';"
        " document.body.append(i); })()"
    )
    assert browser.evaluate("window.ran === undefined")
    assert len(browser.problems()) == 2


STRIP = """(index, mode) => {
  document.querySelector(`[data-mode=${mode}]`).click();
  const canvas = document.querySelectorAll("canvas")[index];
  const ratio = window.devicePixelRatio, rows = Math.round((canvas.height / ratio + 6) / 26);
  const pen = canvas.getContext("2d"), found = [];
  for (let row = 0; row < rows; row++) {
    const line = pen.getImageData(0, (row * 26 + 10) * ratio, canvas.width, 1).data;
    for (let x = 0; x < canvas.width; x++) found.push([...line.slice(4 * x, 4 * x + 4)]);
  }
  return {width: canvas.width, rows, pixels: found};
}"""


def test_a_strip_shows_every_unit_in_its_colour_for_as_long_as_it_lasts(
    browser: Browser, urls: dict[str, str]
) -> None:
    browser.open(urls["pairs"], 1280)
    data = browser.evaluate("JSON.parse(document.getElementById('data').textContent)")
    strip = data["strips"][1]
    colours = [data["colours"][6 * u : 6 * u + 6] for u in range(len(data["colours"]) // 6)]
    drawn = browser.evaluate(f"({STRIP})(1, 'time')")
    frames = [u for u, run in zip(strip["units"], strip["runs"], strict=True) for _ in range(run)]
    row_frames = -(-len(frames) // drawn["rows"])
    scale = drawn["width"] / row_frames if drawn["rows"] > 1 else min(
        drawn["width"] / len(frames), 2.2 * 75 / data["rate"]
    )  # fmt: skip
    checked = 0
    for frame, unit in enumerate(frames):
        row, column = divmod(frame, row_frames)
        x = row * drawn["width"] + int((column + 0.5) * scale)
        if scale >= 1.5:
            red, green, blue, alpha = drawn["pixels"][x]
            assert alpha == 255
            checked += f"{red:02x}{green:02x}{blue:02x}" == colours[unit]
    assert checked / len(frames) > 0.85  # the others are blended at a unit's edge
    collapsed = browser.evaluate(f"({STRIP})(1, 'units')")
    gaps = sum(
        1
        for before, after in zip(collapsed["pixels"], collapsed["pixels"][1:], strict=False)
        if before[3] == 255 and after[3] != 255
    )
    assert gaps == pytest.approx(len(strip["units"]), abs=collapsed["rows"] + 2)


def wait_for(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + 20
    while not browser.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_by_keyboard_alone_a_sample_plays_stops_and_is_sought_in(
    browser: Browser, urls: dict[str, str]
) -> None:
    browser.open(urls["pairs"])
    browser.evaluate("document.getElementById('samples').focus()")
    for _ in range(40):
        browser.key("Tab")
        if browser.evaluate("document.activeElement.className") == "play":
            break
    assert (
        browser.evaluate("document.activeElement.getAttribute('aria-label')") == "Play the prompt"
    )
    outline = "parseFloat(getComputedStyle(document.activeElement).outlineWidth)"
    assert browser.evaluate(outline) >= 2
    first = "document.querySelectorAll('audio')[0]"
    browser.key(" ")
    wait_for(browser, f"{first}.currentTime > 0.1")
    assert (
        browser.evaluate("document.activeElement.getAttribute('aria-label')") == "Pause the prompt"
    )
    browser.key(" ")
    wait_for(browser, f"{first}.paused")
    browser.key("Tab")
    assert browser.evaluate("document.activeElement.getAttribute('role')") == "slider"
    browser.key("Home")
    browser.key("ArrowRight")
    wait_for(browser, f"Math.abs({first}.currentTime - 1) < 0.05")
    shown = browser.evaluate("document.activeElement.getAttribute('aria-valuetext')")
    assert shown.startswith("1.0 of ")


def test_every_clip_lasts_as_long_as_its_strip_and_only_one_plays(
    browser: Browser, urls: dict[str, str]
) -> None:
    browser.open(urls["pairs"])
    off = browser.evaluate(
        """Promise.all([...document.querySelectorAll(".strip")].map(holder => new Promise(done => {
          const audio = holder.querySelector("audio"), map = holder.querySelector(".map");
          audio.preload = "metadata";
          audio.onloadedmetadata = () => done(audio.duration - map.getAttribute("aria-valuemax"));
          audio.onerror = () => done(99);
          audio.load();
        }))).then(values => Math.max(...values.map(Math.abs)))"""
    )
    assert off < 0.11  # shown to a tenth of a second; a last part of a frame has no unit
    playing = "[...document.querySelectorAll('audio')].filter(a => !a.paused).length"
    browser.evaluate("document.querySelectorAll('.play')[0].click()")
    wait_for(browser, f"{playing} === 1")
    browser.evaluate("document.querySelectorAll('.play')[2].click()")
    wait_for(browser, "!document.querySelectorAll('audio')[2].paused")
    assert browser.evaluate(playing) == 1


def test_the_filter_shows_what_its_button_says(browser: Browser, urls: dict[str, str]) -> None:
    browser.open(urls["corpus"])
    visible = "[...document.querySelectorAll('.card')].filter(c => c.offsetParent).length"
    everything = browser.evaluate(visible)
    browser.evaluate("document.querySelector('[data-show=drawn]').click()")
    drawn = browser.evaluate(visible)
    browser.evaluate("document.querySelector('[data-show=suspect]').click()")
    assert drawn + browser.evaluate(visible) == everything
    assert browser.evaluate(
        "document.querySelectorAll('[data-show][aria-pressed=true]').length"
    ) == 1  # fmt: skip
