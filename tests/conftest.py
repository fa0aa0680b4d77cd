"""The fixtures of all tests that open the site in a browser."""

from site_reader import browser, reader_of, site  # noqa: F401
