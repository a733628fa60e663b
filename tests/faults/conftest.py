"""The faults have a page too where they need one, and a table of what they came to."""

from __future__ import annotations

from tests.browser.conftest import browser, locale, page, serve
from tests.faults.app_server import start
from tests.faults.table import figure

__all__ = ["browser", "figure", "locale", "page", "serve", "start"]
