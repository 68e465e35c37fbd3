"""The machine's Chromium, driven by Playwright: what a page shows, asks for and complains of."""

import contextlib
import importlib.resources
import os
import re
import shutil

import pytest
from events import PATIENCE_S
from playwright.sync_api import expect, sync_playwright

PROGRAMS = ("chromium", "google-chrome")


def program():
    """Its path; a test is skipped where there is none, but in CI there must be."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        assert os.environ.get("CI") != "true", f"none of {', '.join(PROGRAMS)} is on PATH"
        pytest.skip(f"needs one of {', '.join(PROGRAMS)}")
    return found


@contextlib.contextmanager
def browser(begin=None):
    """One that has nothing of anybody's, and asks no proxy. `begin` is a program that begins it
    elsewhere, if it is not to run here."""
    with sync_playwright() as playwright:
        # Root has no sandbox of it in a container; what it is shown is ours.
        made = playwright.chromium.launch(
            executable_path=begin or program(),
            args=["--no-sandbox", "--no-proxy-server"],
            timeout=PATIENCE_S * 1000,
        )
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def opened(browser, **how):
    """A page of a browser that has no cookie yet; `asked` are URLs that it asked for, `complaints`
    what is in its console."""
    context = browser.new_context(**how)
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    page.asked, page.complaints = [], []
    context.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    try:
        yield page
    finally:
        context.close()


def says(page, selector, pattern):
    """Wait until an element's text has it; return the text.

    Not by a function that the page evaluates: its own policy refuses that."""
    found = page.locator(selector)
    expect(found).to_contain_text(re.compile(pattern, re.DOTALL), timeout=PATIENCE_S * 1000)
    return found.inner_text()


def violations(page):
    """What axe-core finds wrong for those who see, hear or move otherwise."""
    rules = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    page.evaluate(rules.read_text())  # not as an element: the page's own policy refuses that
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], node["target"], node["failureSummary"])
        for one in found["violations"]
        for node in one["nodes"]
    ]
