"""The studio in a browser: the first paint, a step of the walk-through, the playground's epochs and redraws.

Needs chromium and the built pages. Each figure is taken in the page itself, by the browser's own clock, with a studio that
runs as a person would start it. What is asked for stands in each row; the other side of a row is that limit.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Ratio

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FIRST_PAINT, STEP, EPOCHS, REDRAWS = 1.5, 0.1, 60.0, 30.0
MODEL, TEXT, STEPS = "gallery/stories260k", "Once upon a time there was a little girl who loved to play", 60
WATCHED = 6_000
METER = "(({epochs, redraws}) => ({epochs, redraws, now: performance.now()}))(window.__playground)"


def rows(runs: int, quick: bool) -> list[Ratio]:
    """First paint of Home and of the playground, a step of the walk-through, epochs and redraws of the playground."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium is not None, "the studio is measured in chromium, which is not here"
    with _studio() as address, sync_playwright() as player:
        browser: Any = player.chromium.launch(executable_path=chromium, args=list(FLAGS))
        found = [_first_paint(browser, address, path, runs) for path in ("/", "/playground")]
        found += [_step(browser, address), *_playground(browser, address)]
        browser.close()
    return found


@contextmanager
def _studio() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "glassworks.cli.main", "studio", "--no-browser", "--out", folder]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(20)


def _with(address: str, path: str, state: str = "") -> str:
    base, _, token = address.partition("/?")
    return f"{base}{path}?{token}{state}"


def _opened(browser: Any, address: str) -> Any:
    page = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True).new_page()
    page.goto(address)
    return page


def _first_paint(browser: Any, address: str, path: str, runs: int) -> Ratio:
    """A fresh context each time, so that nothing is cached."""
    seconds: list[float] = []
    for _ in range(max(3, runs)):
        page = _opened(browser, _with(address, path))
        page.locator("h1").first.wait_for()
        page.wait_for_timeout(300)
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        seconds.append(paint / 1000)
        page.context.close()
    return _limited(f"first paint of {path}", FIRST_PAINT, seconds, max(seconds), {"worst": round(max(seconds), 3)})


def _step(browser: Any, address: str) -> Ratio:
    """A layer further in the walk-through, from the key to the page at rest with the new numbers."""
    page = _opened(browser, _with(address, "/walk", f"#model={MODEL}&text={TEXT.replace(' ', '%20')}"))
    page.wait_for_function("window.__walk && window.__walk.steps > 0", timeout=60_000)
    page.wait_for_timeout(1500)
    seconds: list[float] = []
    for number in range(STEPS):
        before = page.evaluate("window.__walk.steps")
        page.keyboard.press("]" if number % 8 < 4 else "[")
        page.wait_for_function(f"window.__walk.steps > {before}", timeout=20_000)
        seconds.append(page.evaluate("window.__walk.seconds"))
    page.context.close()
    p95 = sorted(seconds)[int(0.95 * len(seconds))]
    facts = {
        "p95": round(p95, 4),
        "median": round(statistics.median(seconds), 4),
        "steps": len(seconds),
        "model": MODEL,
    }
    return _limited("walk-through step, p95", STEP, seconds, p95, facts)


def _playground(browser: Any, address: str) -> list[Ratio]:
    """Epochs and redraws of the default network at the page's own speed, and epochs where it may run as fast as it can."""
    usual, fastest = (_rates(browser, address, state) for state in ("", "#speed=max"))
    return [
        _limited(f"playground {name} in the browser", 1 / asked, [1 / usual[name]], 1 / usual[name], {
            f"{name}/s": round(usual[name]), f"{name}/s at full speed": round(fastest[name]),
        })
        for name, asked in (("epochs", EPOCHS), ("redraws", REDRAWS))
    ]  # fmt: skip


def _rates(browser: Any, address: str, state: str) -> dict[str, float]:
    page = _opened(browser, _with(address, "/playground", state))
    page.wait_for_function("window.__playground && window.__playground.epochs !== undefined", timeout=60_000)
    page.get_by_role("button", name="Run").first.click()
    page.wait_for_timeout(1500)
    begun = page.evaluate(METER)
    page.wait_for_timeout(WATCHED)
    ended = page.evaluate(METER)
    page.context.close()
    seconds = (ended["now"] - begun["now"]) / 1000
    return {name: (ended[name] - begun[name]) / seconds for name in ("epochs", "redraws")}


def _limited(what: str, limit: float, seconds: list[float], deciding: float, facts: dict[str, Any]) -> Ratio:
    return Ratio(
        what,
        "what is asked for",
        f"at most {limit:.3g} s",
        seconds,
        [limit],
        limit / deciding,
        deciding <= limit,
        facts,
    )
