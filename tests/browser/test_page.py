"""The page in a real browser: no console message, a table that works, and nothing captured that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analyzer.report.html import render_html
from tests.document_example import example_document

pytestmark = pytest.mark.browser

# Runs after the page's own script, in a copy without the policy, and leaves what it saw in the title.
DRIVER = """
<script>
(async () => {
  const wait = () => new Promise((done) => setTimeout(done, 250));
  const rows = () => document.querySelectorAll("#rows tbody tr").length;
  const seen = [document.querySelector("#controls").hidden, rows()];
  const query = document.querySelector("#query");
  query.value = "kubelet 10255"; query.dispatchEvent(new Event("input")); await wait();
  seen.push(document.querySelector("#matches").textContent);
  query.value = ""; query.dispatchEvent(new Event("input")); await wait();
  const channel = document.querySelector("#filter-channel");
  channel.value = "apiserver-to-etcd"; channel.dispatchEvent(new Event("change"));
  seen.push(document.querySelector("#matches").textContent);
  const octets = [...document.querySelectorAll("#rows th[data-sort=octets] button")][0];
  octets.click(); octets.click();
  const last = [...document.querySelectorAll("#rows tbody tr td:last-child")];
  const cells = last.map((cell) => +cell.textContent.replaceAll(",", ""));
  seen.push(cells.length > 1 && cells.every((n, i) => i === 0 || n <= cells[i - 1]));
  document.querySelector("#rows tbody button.row").click();
  seen.push(document.querySelector("#rows tbody dl").textContent.includes("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"));
  document.querySelector("a[data-channel=kubelet-readonly]").click();
  seen.push(channel.value, document.querySelectorAll("code.copy + button").length);
  document.title = "saw " + JSON.stringify(seen);
})().catch((error) => { document.title = "saw " + error; });
</script>
"""


def _open(page: Path, tmp_path: Path) -> tuple[str, list[str]]:
    """Document after its scripts ran, and the console messages."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    run = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr", "--v=0"),
            *("--virtual-time-budget=4000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return run.stdout, [line for line in run.stderr.splitlines() if ":CONSOLE" in line]


def _title(dom: str) -> str:
    found = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert found is not None
    return found[1]


def test_opening_it_leaves_the_console_empty(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(example_document(200)), encoding="utf-8")
    dom, console = _open(page, tmp_path)
    assert console == []
    assert 'id="controls" role="search" aria-label="Connections">' in dom
    assert "100 shown" in dom


def test_the_policy_stops_what_is_not_ours(tmp_path: Path) -> None:
    """Also the proof that the console is read: a foreign script is refused, and the refusal is seen."""
    page = tmp_path / "report.html"
    text = render_html(example_document())
    page.write_text(text.replace("</main>", "<script>document.title = 'owned'</script></main>"), encoding="utf-8")
    dom, console = _open(page, tmp_path)
    assert _title(dom) == "node-1 any.pcapng · planewire report"
    assert len(console) == 1
    assert "Content Security Policy" in console[0]


def test_search_filter_sort_and_details_work(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_html(example_document(400)))
    page.write_text(text.replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    dom, console = _open(page, tmp_path)
    assert console == []
    assert _title(dom) == (
        'saw [false,100,"44 of 400 rows match, 44 shown","44 of 400 rows match, 44 shown",true,true,'
        '"kubelet-readonly",8]'
    )


def test_it_reads_in_full_without_script(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    # The browser's own switch for scripts also stops --dump-dom: a policy without our hash stops ours alone.
    text = re.sub("script-src '.*?'", "script-src 'none'", render_html(example_document(40)))
    text = re.sub("script-src &#39;.*?&#39;", "script-src 'none'", text)
    page.write_text(text, encoding="utf-8")
    dom, console = _open(page, tmp_path)
    assert len(console) == 1
    assert "Content Security Policy" in console[0]
    assert 'aria-label="Connections" hidden' in dom
    assert dom.count("<tr>") > 100
    assert "All 40 rows, worst channels first." in dom
