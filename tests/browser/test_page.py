"""The page in a real browser: it works, it asks no host, it complains of nothing, and nothing captured runs in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from analyzer.report.answers import answers, headline
from analyzer.report.html import render_html
from analyzer.report.schema_document import QUESTIONS
from analyzer.report.text import visible
from tests.browser.conftest import ARTEFACTS, RECORDINGS, Reports, Watched
from tests.document_example import HOSTILE

pytestmark = pytest.mark.browser

Visit = Callable[..., Page]
ALL = (*RECORDINGS, "large")


def words(page: Page, selector: str) -> str:
    return " ".join((page.locator(selector).text_content() or "").split())


@pytest.mark.parametrize("name", ALL)
def test_five_answers_stand_on_the_first_screen(visit: Visit, reports: Reports, name: str) -> None:
    document = reports.document(name)
    page = visit(name)
    assert words(page, "h1") == " ".join(headline(document).split())
    for answer in answers(document):
        card = page.locator(f".glance-{answer.key}")
        box = card.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900, answer.question
        said = words(page, f".glance-{answer.key}")
        assert answer.question in said
        assert " ".join(visible(answer.answer).split()) in said
    counts = page.locator(".strip .tally").first.bounding_box()
    assert counts is not None
    assert counts["y"] + 20 <= 900


@pytest.mark.parametrize("name", RECORDINGS)
def test_numbers_are_those_of_the_document(visit: Visit, reports: Reports, name: str) -> None:
    document = reports.document(name)
    page = visit(name)
    data = document["connections"]["data"]
    counted = [row for row, leg in enumerate(data["leg_of"]) if leg < 0]
    for question, values in QUESTIONS.items():
        tile = words(page, f"section:has(> #question-{question})")
        for value in values:
            count = sum(data[question][row] == value for row in counted)
            assert re.search(rf"\b{count:,} \S ?{value}\b", tile), (question, value)
    for channel in document["channels"]:
        card = words(page, f"#channel-{channel['id']}")
        noun = "connection" if channel["connections"] == 1 else "connections"
        assert f"{channel['connections']:,} {noun}" in card
    assert page.locator("article.finding").count() == len(document["findings"])
    assert words(page, "#matches") == f"{len(data['channel'])} of {len(data['channel'])} rows match, " + (
        f"{len(data['channel'])} shown"
    )
    for label, number in document["ledger"]["lines"]:
        assert f"{label}{number:,}" in words(page, "table.ledger")


def test_ten_thousand_connections_open_in_two_seconds(visit: Visit, reports: Reports) -> None:
    """Processor time of the page's thread, from the first octet to a hundred rows: other work does not count."""
    assert reports.page("large").stat().st_size < 2_000_000
    page = visit("about:blank")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(reports.page("large").as_uri())
    expect(page.locator("#rows tbody tr")).to_have_count(100)
    measured = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < measured["TaskDuration"] < 2


def test_search_filter_sort_and_details_of_connections(visit: Visit, reports: Reports) -> None:
    page = visit("small")
    expect(page.locator("#controls")).to_be_visible()
    expect(page.locator("#rows tbody tr")).to_have_count(100)
    page.fill("#query", "kubelet 10255")
    expect(page.locator("#matches")).to_have_text("44 of 400 rows match, 44 shown")
    assert page.url.endswith("#connections?q=kubelet+10255")
    page.fill("#query", "")
    page.select_option("#filter-channel", "apiserver-to-etcd")
    expect(page.locator("#matches")).to_have_text("44 of 400 rows match, 44 shown")
    heading = page.locator("#rows th[data-sort=octets] button")
    heading.press("Enter")
    heading.press("Enter")
    expect(page.locator("#rows th[data-sort=octets]")).to_have_attribute("aria-sort", "descending")
    octets = [int(text.replace(",", "")) for text in page.locator("#rows tbody tr td:last-child").all_text_contents()]
    assert octets == sorted(octets, reverse=True)
    page.locator("#rows tbody button.row").first.click()
    assert "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" in words(page, "#rows tbody dl")
    page.click("#reset")
    expect(page.locator("#matches")).to_have_text("400 of 400 rows match, 100 shown")
    page.click("#more")
    expect(page.locator("#rows tbody tr")).to_have_count(200)


def test_links_lead_to_filtered_connections_and_can_be_sent_on(visit: Visit, reports: Reports) -> None:
    document = reports.document("09-anonymous-kubelet")
    page = visit("09-anonymous-kubelet")
    for finding in document["findings"]:
        article = page.locator(f"#finding-{finding['code']}-{finding['channel']}")
        article.locator("a[data-filter]").click()
        count = len(finding["connections"])
        expect(page.locator("#matches")).to_have_text(f"{count} of 16 rows match, {count} shown")
        # Two findings may have as many connections: the list is waited for, not the count alone.
        expect(page.locator("#rows tbody button.row")).to_have_text([str(row) for row in finding["connections"]])
    sent = page.url.split("#")[1]
    again = visit("09-anonymous-kubelet", fragment=f"#{sent}")
    expect(again.locator("#matches")).to_have_text(f"{count} of 16 rows match, {count} shown")
    again.locator("table[data-table=events] a[data-filter]").last.click()
    expect(again.locator("#rows tbody dl")).to_be_visible()
    again.go_back()
    expect(again.locator("#matches")).to_have_text(f"{count} of 16 rows match, {count} shown")


def test_every_table_sorts_and_long_ones_search(visit: Visit) -> None:
    page = visit("05-proxy-cleartext")
    tables = page.locator("table[data-table]")
    assert tables.count() >= 10
    for table in tables.all():
        rows = table.locator("tbody tr").count()
        if rows < 2:
            continue
        name = table.get_attribute("data-table")
        if name == "pairs":
            table.evaluate("table => { table.closest('details').open = true; }")
        heading = table.locator("thead th button").last
        heading.press("Enter")
        assert table.locator("th[aria-sort=ascending]").count() == 1, name
        assert table.locator("tbody tr").count() == rows
        search = table.locator(
            "xpath=ancestor::div[contains(@class,'table')]/preceding-sibling::*[1]//input[@type='search']"
        )
        assert search.count() == (rows > 4), name
        if rows > 4:
            search.fill("no such text anywhere")
            expect(table.locator("tbody tr:visible")).to_have_count(0)
            search.fill("")
            expect(table.locator("tbody tr:visible")).to_have_count(rows)


def test_tables_sort_numbers_as_numbers_and_filter_by_column(visit: Visit, reports: Reports) -> None:
    page = visit("large")
    nodes = page.locator("table[data-table=nodes]")
    expect(nodes.locator("tbody tr")).to_have_count(300)
    nodes.locator("th button", has_text="Traffic").click()
    traffic = [
        int(v or 0) for v in nodes.locator("tbody tr td:nth-child(7)").evaluate_all("c => c.map(x => x.dataset.v)")
    ]
    assert traffic == sorted(traffic)
    tools = page.locator("#nodes .tools")
    tools.locator("input").fill("node-17")
    expect(nodes.locator("tbody tr:visible")).to_have_count(11)


def test_columns_of_few_values_filter(visit: Visit, reports: Reports) -> None:
    page = visit("05-proxy-cleartext")
    high = sum(rule["severity"] == "high" for rule in reports.document("05-proxy-cleartext")["rules"])
    page.locator("#method .tools select").first.select_option("high")
    expect(page.locator("table[data-table=rules] tbody tr:visible")).to_have_count(high)
    cleartext = sum(
        event["kind"] == "cleartext-request" for event in reports.document("05-proxy-cleartext")["timeline"]["events"]
    )
    page.locator("#timeline .tools select").first.select_option("Requests in clear")
    expect(page.locator("table[data-table=events] tbody tr:visible")).to_have_count(cleartext)


def test_copy_buttons_copy_or_select(visit: Visit, reports: Reports) -> None:
    page = visit("09-anonymous-kubelet")
    line = page.locator(".proof .copy-line").first
    line.locator("button").click()
    expect(page.locator("#status")).to_have_text(re.compile("Copied|Selected"))
    first = page.locator("article.finding").first.get_attribute("id")
    finding = next(f for f in reports.document("09-anonymous-kubelet")["findings"] if first and f["code"] in first)
    if page.locator("#status").text_content() == "Copied":
        page.context.grant_permissions(["clipboard-read"])
        assert page.evaluate("navigator.clipboard.readText()") == finding["filter"]
    else:
        assert page.evaluate("getSelection().toString()") == finding["filter"]
    assert page.locator("code.copy").count() == page.locator("code.copy + button").count()


def test_the_map_leads_to_channels_and_nodes(visit: Visit, reports: Reports) -> None:
    document = reports.document("09-anonymous-kubelet")
    page = visit("09-anonymous-kubelet")
    links = page.locator(".map a[data-channel]")
    assert {link.get_attribute("href") for link in links.all()} == {f"#channel-{c['id']}" for c in document["channels"]}
    links.first.focus()
    channel = links.first.get_attribute("data-channel")
    expect(page.locator(f"#legend li[data-channel={channel}]")).to_have_class("picked")
    page.keyboard.press("Enter")
    expect(page.locator(f"#channel-{channel}")).to_be_in_viewport()
    page.locator("#legend li").nth(2).hover()
    channel = page.locator("#legend li").nth(2).get_attribute("data-channel")
    expect(page.locator(f".map a[data-channel={channel}]").first).to_have_class("picked")
    page.locator(".map a.place").first.click()
    expect(page).to_have_url(re.compile(r"#node-\d+$"))
    expect(page.locator("#node-1")).to_be_in_viewport()


def test_light_and_dark_by_the_system_and_by_hand(visit: Visit) -> None:
    def ground(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = visit("10-tls12"), visit("10-tls12", dark=True)
    assert ground(light) != ground(dark)
    before = ground(dark)
    expect(light.locator("#theme")).to_have_text("Dark")
    light.click("#theme")
    assert ground(light) == before
    expect(light.locator("#theme")).to_have_text("Light")


def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    page = visit("09-anonymous-kubelet")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#answer$"))
    seen: set[str] = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        focused: Any = page.evaluate(
            """() => { const at = document.activeElement, box = at.getBoundingClientRect();
            const style = getComputedStyle(at);
            const drawn = at.closest('.map') !== null;
            return [at.tagName, at.textContent.trim().slice(0, 40), drawn || box.width * box.height > 0,
                    drawn || style.outlineStyle !== 'none', box.bottom > 49]; }"""
        )
        seen.add(focused[1])
        assert focused[2], focused
        assert focused[3], focused
        assert focused[4], focused
    assert "Copy" in seen
    assert any("token" in text for text in seen)


def test_small_screens_do_not_scroll_sideways(visit: Visit) -> None:
    for name in (*RECORDINGS, "hostile"):
        page = visit(name, width=390, height=844)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name


@pytest.mark.parametrize("name", ["09-anonymous-kubelet", "large"])
def test_it_reads_in_full_without_script(visit: Visit, reports: Reports, name: str) -> None:
    document = reports.document(name)
    page = visit(name, script=False)
    expect(page.locator("#controls")).to_be_hidden()
    expect(page.locator("#theme")).to_be_hidden()
    assert page.locator("button:visible").count() == 0
    body = page.locator("main").inner_text()
    for finding in document["findings"]:
        assert finding["title"] in body
        assert visible(finding["filter"]) in body
    for channel in document["channels"]:
        assert channel["title"] in body
        assert channel["sentence"] in body
    assert page.locator("#rows tbody tr").count() == min(200, len(document["connections"]["data"]["channel"]))
    page.locator("summary").first.click()
    expect(page.locator("details[open] table").first).to_be_visible()
    page.locator(".map a[data-channel]").first.focus()


def test_captured_text_is_text(visit: Visit, reports: Reports) -> None:
    page = visit("hostile")
    assert page.locator("script").count() == 2
    assert page.locator("main img, main iframe, main object, main form").count() == 0
    text = page.locator("body").text_content() or ""
    for hostile in HOSTILE:
        assert visible(hostile) in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00-\x08\x0b-\x1f]", text)
    page.fill("#query", "<script>")
    expect(page.locator("#matches")).to_have_text(re.compile(r"^[1-9]\d* of 120 rows match"))
    page.locator("#rows tbody button.row").first.click()
    for link in page.locator("#nodes a[data-filter]").all()[:6]:
        link.click()
        expect(page.locator("#matches")).to_have_text(re.compile(r"^[1-9]"))
    assert page.evaluate("Object.keys(window).filter(k => k === 'owned').length") == 0


def test_the_policy_stops_what_is_not_ours(visit: Visit, reports: Reports, watched: Watched, tmp_path: Path) -> None:
    """Also the proof that the console and requests are watched: both are refused, and both refusals are seen."""
    path = tmp_path / "report.html"
    foreign = "<script>document.title = 'owned'</script><img src='https://example.org/x.png' alt=''></main>"
    path.write_text(render_html(reports.document("small")).replace("</main>", foreign), encoding="utf-8")
    page = visit(str(path))
    assert page.title() == "node-1 any.pcapng · planewire report"
    assert len(watched.console) == 2
    assert all("Content Security Policy" in text for text in watched.console)
    assert watched.requests[-1] == "https://example.org/x.png"
    watched.console.clear()
    watched.requests.clear()


@pytest.mark.parametrize(
    ("name", "dark"), [*((name, False) for name in ALL), ("09-anonymous-kubelet", True)], ids=lambda value: str(value)
)
def test_axe_finds_nothing_serious(visit: Visit, name: str, dark: bool) -> None:
    """WCAG 2.2 AA and axe-core's best practices; all of the page, with its details open and one row unfolded."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit(name, dark=dark)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.locator("#rows tbody button.row").first.click()
    page.evaluate("scrollTo(0, 0)")  # what has scrolled below the sticky header is no target
    if name == "large":
        # What holds for three alike rows holds for 300.
        page.evaluate(
            "for (const b of document.querySelectorAll('tbody')) [...b.rows].slice(4).forEach(r => r.remove())"
        )
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}}).response["violations"]
    assert [
        (violation["id"], violation["impact"], node["html"][:200])
        for violation in found
        for node in violation["nodes"][:3]
    ] == []


@pytest.mark.parametrize("name", ALL)
def test_pictures_to_look_at(visit: Visit, name: str) -> None:
    """Screens at three widths, light and dark, and the page as printed: files to look at, and a print that is whole."""
    ARTEFACTS.mkdir(exist_ok=True)
    page = visit(name)
    printed = page.pdf(path=ARTEFACTS / f"{name}.pdf", prefer_css_page_size=True, print_background=True)
    assert printed.startswith(b"%PDF")
    for width, height in ((390, 844), (1280, 900), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.screenshot(path=ARTEFACTS / f"{name}-{width}-{scheme}.png")
            if name != "large" and (width, scheme) in ((390, "light"), (1280, "light"), (1280, "dark")):
                page.screenshot(path=ARTEFACTS / f"{name}-{width}-{scheme}-whole.png", full_page=True)
