"""The report and the sandbox's page in a browser: light and dark, on a phone, in print, and read by axe-core.

axe-core is one file of JavaScript. `.ci/run` takes it from a package that drives Playwright, without Playwright:
`.venv/bin/pip install --no-deps --target .venv/axe -r .ci/axe.lock`.
"""

import base64
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from eb_dagster.pipeline.html_report import report_page
from eb_dagster.pipeline.report import Report
from eb_dagster.sandbox import Fault
from tests.browser import Page, browser, program
from tests.pipeline.test_html_report import plan
from tests.pipeline.test_html_report import report as usual_report
from tests.sandbox.client import ask, emails

AXE = Path(sys.prefix, "axe", "axe_playwright_python", "axe.min.js")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}

pytestmark = [
    pytest.mark.skipif(program() is None, reason="needs Chromium"),
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def look_at(tab: Page, *, scheme: str, width: int) -> None:
    tab.call(
        "Emulation.setEmulatedMedia",
        media="screen",
        features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)


def violations(tab: Page) -> list[str]:
    """What axe-core has against the page, contrast included."""
    # Not by a script of the page's own, which its policy would refuse.
    tab.call("Runtime.evaluate", expression=AXE.read_text("utf-8"))
    script = f"axe.run(document, {json.dumps(RULES)}).then(found => JSON.stringify(found.violations))"
    result = tab.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    found = json.loads(result["result"]["value"])
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]


def too_wide(tab: Page) -> list[str]:
    return tab.value(
        "[...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > "
        "document.documentElement.clientWidth + 1).map(one => one.outerHTML.slice(0, 80))"
    )


def check(tab: Page) -> None:
    shades = []
    for scheme in ("light", "dark"):
        for width in (1200, 360):
            look_at(tab, scheme=scheme, width=width)
            assert too_wide(tab) == []
            if AXE.exists():
                assert violations(tab) == []
        shades.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert len(set(shades)) == 2
    printed = base64.b64decode(tab.call("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")
    # In print, a page is light whatever the screen is.
    tab.call("Emulation.setEmulatedMedia", media="print")
    if AXE.exists():
        assert violations(tab) == []
    assert tab.value("getComputedStyle(document.body).backgroundColor") == shades[0]


REPORTS = {
    "whole": (usual_report(drift=Counter({"employment.size": 7}), unreadable=5, suppressed=9), 0.05),
    "stopped": (usual_report(stopped="max_credits is spent", credits_charged=123_456_789), 0.05),
    "interrupted": (usual_report(ended_early="it was interrupted", rows_read=1000), None),
    "empty": (Report(), None),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_reads_well_wherever_it_is_looked_at(tab, tmp_path, name):
    report, price = REPORTS[name]
    file = tmp_path / "report.html"
    file.write_text(report_page(report, plan=plan(), price=price), "utf-8")
    tab.open(file.as_uri())
    tab.wait_for("Enrichment report", "All figures")
    check(tab)


def test_the_sandbox_shows_its_bill_its_requests_and_its_faults_live(tab, stand_in):
    api = stand_in(match_rate=1.0, credits=50, faults=[Fault("502", 2, 2)])
    tab.open(api.url)
    tab.wait_for("ExactBuyer sandbox", "Credits left\n50", "502\t2\tto come")
    ask(api, emails(7))
    tab.wait_for("Credits charged\n7", "Credits left\n43")
    ask(api, emails(3))
    shown = tab.wait_for("Credits charged\n10", "502\t2\tover", "Charged twice\n3")
    assert "example" not in shown
    check(tab)


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: see above")
def test_axe_finds_what_cannot_be_read(tab, tmp_path):
    file = tmp_path / "bad.html"
    file.write_text(
        "<!doctype html><html><body><p style='color:#ddd;background:#fff'>faint</p></body></html>"
    )
    tab.open(file.as_uri())
    tab.wait_for("faint")
    found = violations(tab)
    assert any(text.startswith("color-contrast") for text in found)
    assert any(text.startswith("html-has-lang") for text in found)
