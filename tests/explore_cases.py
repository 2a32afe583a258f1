"""Fixtures of the tests of ``actlab explore``: its page in a real browser, without network."""

# ruff: noqa: F811

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import actlab
from tests.browser import open_offline
from tests.report_cases import browser  # noqa: F401


def open_page(browser, folder, *activations, fragment="", **options):
    """Open the page of some activations; requests and errors fail the test."""
    file = folder / "explore.html"
    actlab.explore(*activations).to_html(file)
    return open_offline(browser, file, fragment=fragment, **options)


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """One page for the tests that do not change it."""
    with open_page(browser, tmp_path_factory.mktemp("page"), "relu", "gelu", "tanh") as opened:
        yield opened


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that opens the page of some activations."""
    with contextlib.ExitStack() as pages:
        yield lambda *names, **options: pages.enter_context(open_page(browser, tmp_path, *names, **options))


def read_numbers(texts):
    return np.array([float(text.replace("Infinity", "inf")) for text in texts])
