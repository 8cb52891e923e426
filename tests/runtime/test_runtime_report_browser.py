"""The report in a real browser: from file://, without errors, by keyboard, with filter and blurred texts."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from headless_chromium import Chromium, find_chromium
from hostile_texts import HOSTILE

from constraintlang_runtime.report.html import write_html
from constraintlang_runtime.report.legible import legible

BINARY = find_chromium()
READY = "document.querySelector('#all-samples.ready')"
REPLIES = "[...document.querySelectorAll('#s-rows td[data-label=Reply] .text')]"
COLOURS = "(s => [s.color, s.backgroundColor].map(c => c.match(/\\d+/g).map(Number)))(getComputedStyle(document.body))"

if BINARY is None:
    pytest.skip(
        "NO CHROMIUM ON PATH: THE REPORT WAS NOT OPENED IN A BROWSER; install the package `chromium`",
        allow_module_level=True,
    )


def example() -> dict[str, Any]:
    spec = util.spec_from_file_location("report_example", Path(__file__).with_name("report_example.py"))
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.example())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert BINARY is not None
    with Chromium(BINARY, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    data = example()
    extra = [
        {"prompt": f"Prompt {i}", "completion": f"an answer number {i}", "domain": "chat", "score": i / 1000,
         "violates": False, "clause": "no_slur"}
        for i in range(200)
    ]  # fmt: skip
    data["systems"][-1]["samples"] += extra
    return write_html(data, tmp_path_factory.mktemp("page") / "a report.html").as_uri()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    texts = [
        {
            "prompt": text,
            "completion": text,
            "domain": text[:99],
            "score": 0.5,
            "violates": True,
            "clause": text[:99],
        }
        for text in HOSTILE.values()
    ]
    data = example()
    data["title"], data["notes"] = HOSTILE["title"], [text[:3000] for text in HOSTILE.values()]
    data["policy_text"] = HOSTILE["style"]
    data["systems"][-1] |= {"samples": texts, "label": HOSTILE["image"]}
    return write_html(data, tmp_path_factory.mktemp("page") / "hostile.html").as_uri()


def rows(browser: Chromium) -> int:
    return int(browser.run("document.querySelectorAll('#s-rows tr').length"))


def focus(browser: Chromium) -> str:
    return str(
        browser.run(
            "(e => e.id || e.dataset.show !== undefined && 'show' || e.tagName)(document.activeElement)"
        )
    )


def test_it_opens_from_a_file_without_an_error_or_a_request(browser: Chromium, page: str) -> None:
    browser.open(page, ready=READY)
    assert browser.problems() == []
    assert browser.requests() == [page]
    text = browser.run("document.body.innerText")
    assert "3 of 4 requirements hold; 1 is inconclusive." in text
    for word in ("HOLDS", "Trade-off", "Dual variable λ", "Provenance"):
        assert word.lower() in text.lower()
    assert browser.run("document.querySelectorAll('svg.chart').length") == 18


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_its_window_and_can_be_read(browser: Chromium, page: str, width: int, dark: bool) -> None:
    browser.appearance(dark=dark, width=width)
    try:
        browser.open(page, ready=READY)
        assert browser.run("document.documentElement.scrollWidth") <= width
        colours = browser.run(COLOURS)
        ink, ground = (sum(colour[:3]) / 3 for colour in colours)
        assert (ground < 60 and ink > 200) if dark else (ground > 220 and ink < 60)
    finally:
        browser.appearance()


def test_the_filter_leaves_what_matches(browser: Chromium, page: str) -> None:
    browser.open(page, ready=READY)
    everything = browser.run("JSON.parse(document.getElementById('sample-data').textContent).rows.length")
    assert everything > 200
    assert rows(browser) == 50
    assert f"50 of {everything} matching rows shown" in browser.run(
        "document.getElementById('s-count').textContent"
    )
    browser.run("document.getElementById('s-filter').focus()")
    browser.type("ANSWER 17")
    browser.wait(
        "document.querySelectorAll('#s-rows tr').length === 12"
    )  # 17, 117 and 170 to 179 and 17 of 117
    assert "filter=ANSWER" in browser.run("location.hash")


def test_the_address_names_what_is_shown(browser: Chromium, page: str) -> None:
    browser.open(f"{page}#show=violations", ready=READY)
    data = "JSON.parse(document.getElementById('sample-data').textContent).rows"
    violations = browser.run(f"{data}.filter(row => row[8] === true).length")
    assert rows(browser) == violations > 0
    assert browser.run("document.getElementById('s-show').value") == "violations"
    browser.run("location.hash = '#filter=nothing+like+this'")
    browser.wait("!document.getElementById('s-none').hidden")
    assert rows(browser) == 0
    browser.run("location.hash = '#order=longest'")
    browser.wait("document.querySelectorAll('#s-rows tr').length === 50")
    lengths = browser.run(f"{REPLIES}.map(e => e.textContent.length)")
    assert lengths == sorted(lengths, reverse=True)
    browser.run("location.hash = '#policy'")  # a place in the page changes no filter
    assert rows(browser) == 50


def test_texts_are_blurred_until_asked(browser: Chromium, page: str) -> None:
    browser.open(page, ready=READY)
    blurred = (
        "[...document.querySelectorAll('.text')].filter(e => getComputedStyle(e).filter.includes('blur')"
        " && e.getAttribute('aria-hidden') === 'true').length"
    )
    every = browser.run("document.querySelectorAll('.text').length")
    assert browser.run(blurred) == every > 100
    assert browser.run("document.querySelector('#samples details').open")
    browser.run("document.querySelector('#s-rows button[data-show]').focus()")
    browser.press("Enter", 13)
    assert browser.run(blurred) == every - 2  # prompt and reply of one row
    assert browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    browser.run("document.querySelector('#rows button[data-show-all]').click()")
    assert browser.run(blurred) == 0
    browser.run("document.getElementById('s-more').click()")
    assert rows(browser) == 100
    assert browser.run(blurred) == 0
    browser.open(page, ready=READY)  # nothing is remembered
    assert browser.run(blurred) == every


def test_every_control_is_reached_by_the_keyboard(browser: Chromium, page: str) -> None:
    browser.open(page, ready=READY)
    browser.run("document.getElementById('s-filter').focus()")
    found = []
    for _ in range(6):
        found.append(focus(browser))
        browser.press("Tab", 9)
    assert found[0] == "s-filter"
    assert {"s-show", "s-system", "s-order"} <= set(found)
    browser.open(page, ready=READY)
    first = []
    for _ in range(3):
        browser.press("Tab", 9)
        first.append(browser.run("document.activeElement.getAttribute('href')"))
    assert first == ["#main", "#policy", "#systems"]
    unnamed = (
        "[...document.querySelectorAll('button, input, select')].filter(e => !(e.textContent.trim()"
        " || e.labels?.length || e.getAttribute('aria-label'))).length"
    )
    assert browser.run(unnamed) == 0
    assert (
        browser.run(
            'document.querySelectorAll(\'[tabindex]:not([tabindex="0"]):not([tabindex="-1"])\').length'
        )
        == 0
    )
    assert browser.run(
        "[...document.querySelectorAll('svg[role=img]')].every(e => e.getAttribute('aria-label'))"
    )


def test_hostile_texts_are_texts(browser: Chromium, hostile: str) -> None:
    browser.open(hostile, ready=READY)
    assert browser.problems() == []
    assert browser.requests() == [hostile]
    assert browser.run("typeof window.broken") == "undefined"
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.run("document.querySelectorAll('main img, main h1:not(.hero h1), main style').length") == 0
    assert browser.run("document.title").endswith(legible(HOSTILE["title"]))
    browser.run("document.querySelector('#rows [data-show-all]').click()")
    browser.run("document.querySelectorAll('#s-rows td.words button').forEach(b => b.click())")
    shown = set(browser.run(f"{REPLIES}.map(e => e.textContent)"))
    for name, text in HOSTILE.items():
        assert (legible(text)[:2000] if text.strip() else "(empty)") in shown, name
    assert browser.run("document.documentElement.scrollWidth") <= 1200


def test_without_scripts_the_verdict_stands(browser: Chromium, page: str) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=page)
        browser.wait("document.readyState === 'complete' && document.querySelector('#samples')")
        assert not browser.run("document.querySelector('#samples details').open")  # unblurred, so folded away
        text: Any = browser.run("document.body.innerText")
        assert "3 of 4 requirements hold" in text
        assert "The table needs JavaScript" in text
        assert "worthless idiot" not in text
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
