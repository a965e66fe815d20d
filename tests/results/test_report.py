"""The report, opened in a browser as a reader opens it: nothing missing, nothing broken, the right numbers."""

import importlib.util
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dsd.results.analysis import analyse
from dsd.results.report import html, markdown, section, write
from dsd.results.statistics import words
from dsd.results.study import Claim, Metric, Row, Study
from tests.results.test_study import STUDY, records, results

MOMENTS = {
    "layer": "fc.weight",
    "run_id": "dsd-0",
    "moments": [
        {"label": label, "edges": [-1, -0.5, 0, 0.5, 1], "counts": [1, 8, 9, 2], "zeros": zeros, "std": 0.4}
        for label, zeros in (("before pruning", 0), ("after pruning", 10), ("final", 1))
    ],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    kept = records.collect(STUDY, results())[:-1]  # one run is missing
    folder = tmp_path_factory.mktemp("report")
    write(folder, "A <toy> & its report", [section(analyse(STUDY, kept), kept, MOMENTS)], "python -m experiments toy")
    return folder


def test_every_part_is_there(page):
    names = sorted(path.name for path in page.iterdir())
    assert names == [
        "report.html",
        "report.md",
        "toy-curves.svg",
        "toy-forest.svg",
        "toy-points.svg",
        "toy-weights.svg",
    ]


def test_the_page_needs_no_network(page):
    text = (page / "report.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert {link for link in links if not link.startswith("#")} <= {"data:,"}
    assert "@import" not in text
    assert "url(http" not in text


def test_no_two_things_of_the_page_have_one_id(page):
    text = (page / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert "toy-points-figure_1" in ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', text)) <= set(ids), "what is used is there"


def test_what_is_quoted_cannot_break_the_page(page):
    text = (page / "report.html").read_text()
    assert "A &lt;toy&gt; &amp; its report" in text
    HTMLParser().feed(text)


def test_every_run_says_what_it_starts_from_and_which_code_it_had():
    kept = records.collect(STUDY, results())
    kept = [r | {"git": {"commit": "0123456789abcdef", "dirty": r["seed"] == 1}} for r in kept]
    rows = re.findall("<tr>.*?</tr>", html("t", [section(analyse(STUDY, kept), kept, None)], "c"))
    by_run = {
        name: [row for row in rows if f"<code>{name}</code></td>" in row] for name in ("dsd-0", "dsd-1", "baseline-0")
    }
    assert [len(found) for found in by_run.values()] == [1, 1, 1]
    assert "<code>b</code></td>" in by_run["dsd-0"][0]
    assert "<code>0123456</code></td>" in by_run["dsd-0"][0]
    assert "<code>0123456 with changes</code></td>" in by_run["dsd-1"][0]
    assert "<code>b</code></td>" not in by_run["baseline-0"][0]


def test_markdown_says_the_same(page):
    text = (page / "report.md").read_text()
    assert "- DSD helps: **supported** at n = 8," in text
    assert "Runs still missing: 1." in text
    assert "method=finetune seed=7" in text
    assert re.search(r"\| base \| 8 \| \d+\.\d\d \| \d\.\d\d \| .* \| 8\.26 \|", text)
    assert "![" in text
    assert "](toy-points.svg)" in text


def test_an_empty_study_makes_a_report_too():
    parts = [section(analyse(STUDY, []), [], None)]
    assert "not tested" in html("t", parts, "c")
    assert "Runs still missing: 24" in markdown("t", parts, "c")


@pytest.mark.parametrize(("gain", "outcome"), [(2.0, "gain"), (-2.0, "loss")])
@pytest.mark.parametrize(("better", "way"), [("lower", "negative"), ("higher", "positive")])
def test_the_page_calls_a_loss_a_loss(gain, outcome, better, way):
    kept = records.collect(STUDY, results(gain=gain if better == "lower" else -gain))
    study = Study(**{**vars(STUDY), "metrics": (Metric("test/error1", "it", "%", better),)})
    parts = [section(analyse(study, kept), kept, None)]
    for page in (html("t", parts, "c"), markdown("t", parts, "c")):
        assert f"Where the {outcome} comes from (it, %; {way} is a gain):" in page


def test_a_run_without_its_metric_does_not_take_the_report_with_it():
    kept = [r | {"test": {}} if r["run_id"] == "dsd-3" else r for r in records.collect(STUDY, results())]
    parts = [section(analyse(STUDY, kept), kept, None)]
    for page in (html("t", parts, "c"), markdown("t", parts, "c")):
        assert "test/error1 is missing or no finite number: dsd with seed 3 (run dsd-3)" in page
        assert "if Brown-Forsythe's p (uncorrected) is below 0.05 as well" in page


def test_bars_and_brackets_break_no_table_and_no_picture():
    odd = replace(STUDY, metrics=(Metric("test/error1", "error |e|", "%", "lower"),), rows=(Row("DSD |w| > 0] 50 %", "dsd"),),
                  claims=(Claim("a|b helps", "dsd", "baseline", "paired t"),))  # fmt: skip
    kept = records.collect(odd, results())
    text = markdown("t", [section(analyse(odd, kept), kept, None)], "c")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    by_cells = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert len(tables) > 8
    assert len(set(by_cells[:3])) == 1, "header, rule and row of the first"
    assert len(set(by_cells[-3:])) == 1
    assert r"| DSD \|w\| > 0] 50 % |" in text
    for alt in re.findall(r"!\[(.*)\]\(toy-", text):
        assert not re.search(r"(?<!\\)[\[\]]", alt)


def test_small_numbers_are_told_apart():
    small = replace(STUDY, margin=1e-4, rows=(*STUDY.rows, Row("held", "dsd")))
    runs = [
        one
        | {
            "metrics": {
                "phases": one["metrics"]["phases"],
                "test": {"test/error1": one["metrics"]["test"]["test/error1"] / 1000},
            }
        }
        for one in results()
    ]
    kept = records.collect(small, runs)
    parts = [section(analyse(small, kept), kept, None)]
    effect = parts[0].findings.judged[0].comparison.effect.value
    assert abs(effect) < 0.005
    for page in (html("t", parts, "c"), markdown("t", parts, "c")):
        assert f"{effect:.5f}" in page
        assert f"{parts[0].findings.lines[0].summary.mean:.4f}" in page


@pytest.mark.parametrize("p", [0.0496, 0.04996, 0.0501, 0.0099])
def test_a_p_beside_a_level_is_not_written_as_the_level(p):
    assert float(words.p_value(p).removeprefix("p = ")) == p
    assert (words.p_value(0.05), words.p_value(0.0333)) == ("p = 0.05", "p = 0.033")


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_in_a_browser(page, scheme):
    if importlib.util.find_spec("selenium") is None or not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs selenium, chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update",
                 "disable-sync", "disable-quic", "window-size=1100,2000"):  # fmt: skip
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        dark = "light" if scheme == "light" else "dark"  # what is printed is dark on white from a dark screen, too
        media = {"media": "print" * (scheme == "print"), "features": [{"name": "prefers-color-scheme", "value": dark}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(f"file://{page}/report.html")
        assert browser.get_log("browser") == []
        figures = browser.find_elements(By.CSS_SELECTOR, "figure[role=img]")
        assert len(figures) == 4
        for figure in figures:
            drawn = figure.find_element(By.TAG_NAME, "svg").rect
            assert drawn["width"] > 400
            assert drawn["height"] > 60
            assert len(figure.get_attribute("aria-label")) > 40
            assert figure.find_elements(By.CSS_SELECTOR, "path, use")
        rows = browser.find_elements(By.CSS_SELECTOR, "table.results tbody tr")
        cells = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
        assert [row[:2] for row in cells] == [["base", "8"], ["half", "8"], ["end", "8"], ["tune", "7"]]
        assert cells[0][7] == "8.26"
        heads = browser.find_elements(By.CSS_SELECTOR, "table.results thead th")
        assert {len(row) for row in cells} == {len(heads)}
        assert len(browser.find_elements(By.CSS_SELECTOR, "table.tests tbody tr")) == 3
        body = browser.find_element(By.TAG_NAME, "body")
        ink = sum(map(int, re.findall(r"\d+", body.value_of_css_property("color"))[:3]))
        ground = sum(map(int, re.findall(r"\d+", body.value_of_css_property("background-color"))[:3]))
        assert (ink > ground) == (scheme == "dark")
        axis = browser.find_element(By.CSS_SELECTOR, "figure svg text")
        assert axis.value_of_css_property("fill") == body.value_of_css_property("color").replace("rgba", "rgb").replace(
            ", 1)", ")"
        )
        wide = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, "nothing is wider than the window"
