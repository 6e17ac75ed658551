"""A browser for all tests of a run, the reports they open, and a watch over what the pages ask for and complain of."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.report.html import render_html
from analyzer.report.schema_document import Document, as_document
from analyzer.user_files import load_cluster
from tests.conftest import LAB, ROOT
from tests.document_example import example_document, hostile_document

ARTEFACTS = ROOT / "tests" / "browser" / "artefacts"
"""Screenshots and printed pages, to be looked at; not part of the repository."""
RECORDINGS = ("05-proxy-cleartext", "09-anonymous-kubelet", "10-tls12")
"""Between them: cleartext, a credential, a refusal, unverified kubelets, certificates in clear."""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def recorded(stem: str) -> Document:
    with open_capture(str(LAB / f"{stem}.pcap")) as reader:
        result = run(reader, load_cluster((str(LAB / "clusters" / stem),)))
    return as_document(build_document(result))


@dataclass
class Reports:
    """Documents by name, and the pages rendered from them."""

    folder: Path
    documents: dict[str, Document] = field(default_factory=dict)

    def document(self, name: str) -> Document:
        if name not in self.documents:
            makers: dict[str, Callable[[], Document]] = {
                "large": lambda: example_document(10_000, 300),
                "hostile": lambda: hostile_document(120, 9),
                "small": lambda: example_document(400, 3),
            }
            self.documents[name] = makers[name]() if name in makers else recorded(name)
        return self.documents[name]

    def page(self, name: str) -> Path:
        path = self.folder / f"{name}.html"
        if not path.exists():
            path.write_text(render_html(self.document(name)), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return Reports(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module, no longer: Playwright holds an event loop and a child process while it is open."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield started
        started.close()


@dataclass
class Watched:
    """What pages did that they must not."""

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def visit(browser: Browser, reports: Reports, watched: Watched) -> Iterator[Callable[..., Page]]:
    """Open a report by name; at the end nothing was asked of any host and nothing complained."""
    contexts: list[BrowserContext] = []

    def opened(
        name: str, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True, fragment: str = ""
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: watched.console.append(message.text))
        page.on("pageerror", lambda error: watched.console.append(str(error)))
        page.on("dialog", lambda dialog: watched.console.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: watched.requests.append(request.url))
        if name != "about:blank":
            path = reports.page(name) if not name.endswith(".html") else Path(name)
            page.goto(path.as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [text for text in watched.console if not _expected(text)] == []
    assert [url for url in watched.requests if not re.match(r"file://|data:,", url)] == []


def _expected(text: str) -> bool:
    return text.startswith("expected: ")
