"""A page in a real browser that has no network, and what went wrong there."""

from __future__ import annotations

import contextlib


@contextlib.contextmanager
def offline(browser, file, **how):
    """Open a file; at the end nothing may have been asked for or complained of."""
    wrong = []
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
    with contextlib.closing(context):
        context.route(
            lambda url: not url.startswith("file:"),
            lambda route: (wrong.append(route.request.url), route.abort()),
        )
        context.set_offline(True)
        page = context.new_page()
        page.on(
            "console",
            lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(file.as_uri())
        yield page
    assert wrong == []
