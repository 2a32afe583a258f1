"""Open pages in a real browser without network, and collect errors."""

from __future__ import annotations

import contextlib


@contextlib.contextmanager
def open_offline(browser, file, fragment="", **options):
    """Open a file; requests and console errors fail the test at the end."""
    problems = []
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    with contextlib.closing(context):
        context.route(
            lambda url: not url.startswith("file:"),
            lambda route: (problems.append(route.request.url), route.abort()),
        )
        context.set_offline(True)
        page = context.new_page()
        page.on(
            "console",
            lambda message: problems.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{file.as_uri()}#{fragment}" if fragment else file.as_uri())
        yield page
    assert problems == []
