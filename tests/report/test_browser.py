"""The report in a real browser: it loads, shows everything, and can be read on a laptop and on a phone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed (apt-get install chromium-driver)"
)

WIDTHS = pytest.mark.parametrize("width", [1280, 375])

CONTRAST = """
const luminance = color => {
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = element => {
  for (; element; element = element.parentElement) {
    const color = getComputedStyle(element).backgroundColor;
    if (!/, 0\\)$/.test(color)) return color;
  }
  return 'rgb(255, 255, 255)';
};
const low = [];
for (const element of document.querySelectorAll('body *')) {
  if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
  const pair = [getComputedStyle(element).color, background(element)].map(luminance).sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < 4.5) low.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
}
return low;
"""

CELLS = """
return [...document.querySelectorAll('th, td, caption')].map(cell => ({
  text: cell.textContent.trim(),
  size: parseFloat(getComputedStyle(cell).fontSize),
  clipped: cell.scrollWidth > cell.clientWidth + 1 || cell.scrollHeight > cell.clientHeight + 1,
  width: cell.getBoundingClientRect().width,
}));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get("about:blank")
    yield driver
    driver.quit()


def load(browser: webdriver.Chrome, page: Path, width: int, scheme: str = "light") -> None:
    """Show the page at `width` with every collapsed part opened."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")


def requests(browser: webdriver.Chrome, page: Path) -> list[str]:
    """Addresses asked for by the page, itself included; the browser's own pages ask for theirs."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in sent if request["documentURL"] == page.as_uri()]


def test_loads_without_an_error_and_asks_for_nothing_else(browser: webdriver.Chrome, page: Path) -> None:
    load(browser, page, 1280)
    assert browser.get_log("browser") == []
    asked = requests(browser, page)
    assert page.as_uri() in asked
    assert [url for url in asked if url != page.as_uri() and not url.startswith("data:")] == []


def test_every_image_is_shown(browser: webdriver.Chrome, page: Path) -> None:
    load(browser, page, 1280)
    images: list[dict[str, Any]] = browser.execute_script(
        "return [...document.images].map(i => ({drawn: i.naturalWidth, stated: +i.getAttribute('width'), "
        "shown: i.getBoundingClientRect().width, alt: i.alt}))"
    )
    assert len(images) == 2
    assert all(image["drawn"] == image["stated"] > 0 and image["shown"] > 300 and image["alt"] for image in images)


@WIDTHS
@pytest.mark.parametrize("opened", [True, False])
def test_the_page_never_scrolls_sideways(browser: webdriver.Chrome, page: Path, width: int, opened: bool) -> None:
    load(browser, page, width)
    browser.execute_script(f"document.querySelectorAll('details').forEach(part => part.open = {str(opened).lower()})")
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    outside = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.matches('.skip') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


@WIDTHS
def test_tables_can_be_read(browser: webdriver.Chrome, page: Path, width: int) -> None:
    load(browser, page, width)
    cells: list[dict[str, Any]] = browser.execute_script(CELLS)
    assert len(cells) > 150
    assert [cell for cell in cells if cell["size"] < 12] == []
    assert [cell for cell in cells if cell["clipped"]] == []
    assert [cell for cell in cells if cell["text"] and cell["width"] < 8] == []
    reachable = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].every(box => { box.scrollLeft = 1e6; "
        "const right = Math.max(...[...box.querySelectorAll('td')].map(c => c.getBoundingClientRect().right)); "
        "return right <= box.getBoundingClientRect().right + 1; })"
    )
    assert reachable


def test_row_labels_stay_in_view_on_a_phone(browser: webdriver.Chrome, page: Path) -> None:
    load(browser, page, 375)
    lefts = browser.execute_script(
        "const box = document.querySelector('.results').closest('.scroll'); box.scrollLeft = 1e6; "
        "return [box.scrollLeft, ...[...box.querySelectorAll('tbody th[scope=row]')].map(cell => "
        "cell.getBoundingClientRect().left)]"
    )
    assert lefts[0] > 100  # the table is wider than the phone
    assert all(0 <= left < 40 for left in lefts[1:])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_colour_schemes(browser: webdriver.Chrome, page: Path, scheme: str) -> None:
    load(browser, page, 1280, scheme)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(252, 252, 250)" if scheme == "light" else "rgb(20, 23, 26)"
    )
    assert browser.execute_script(CONTRAST) == []


def test_headings_and_tables_are_marked_up(browser: webdriver.Chrome, page: Path) -> None:
    load(browser, page, 1280)
    levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tables = browser.execute_script(
        "return [...document.querySelectorAll('table')].map(t => [t.caption.textContent.trim().length, "
        "[...t.querySelectorAll('th')].filter(h => !h.scope).length, t.querySelectorAll('th[scope=row]').length])"
    )
    assert len(tables) == 3
    assert all(caption > 20 and unscoped == 0 and rows > 0 for caption, unscoped, rows in tables)


def test_links_lead_somewhere(browser: webdriver.Chrome, page: Path) -> None:
    load(browser, page, 1280)
    links = browser.execute_script("return [...document.links].map(a => a.getAttribute('href'))")
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    files = {link for link in links if not link.startswith("#")}
    assert {"runs.csv", "robust-generative/table1.csv", "robust-generative/figure2a.pdf"} <= files
    assert [link for link in files if not (page.parent / link).is_file()] == []


def test_failing_claims_are_as_visible_as_holding_ones(browser: webdriver.Chrome, page: Path) -> None:
    load(browser, page, 1280)
    badges = browser.execute_script(
        "return [...document.querySelectorAll('.claim .badge')].map(b => [b.innerText.split(' ').slice(1).join(' '), "
        "getComputedStyle(b).fontSize, getComputedStyle(b).fontWeight, b.checkVisibility()])"
    )
    assert [badge[0] for badge in badges].count("fails") == 2
    assert [badge[0] for badge in badges].count("not decided") == 1
    assert len(badges) == 8
    assert len({tuple(badge[1:]) for badge in badges}) == 1
    assert "2 fail" in browser.execute_script("return document.querySelector('.tally').innerText")
