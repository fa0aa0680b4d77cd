"""The buttons of a page: the copy of its notebook to download, and on Colab only where the book has a repository there."""

import pytest
import sphinx_site

DOWNLOADS = {"type": "group", "label": "download-buttons"}


def context(suffix):
    buttons = [
        {"label": "download-source-button", "url": "../_sources/book/01-one.ipynb"},
        {"label": "download-pdf-button"},
    ]
    return {
        "page_source_suffix": suffix,
        "pathto": lambda name, is_file: f"../{name}",
        "header_buttons": [DOWNLOADS | {"buttons": buttons}, {"type": "javascript", "label": "fullscreen-button"}],
    }


def buttons(pagename, suffix):
    """label -> url of all buttons of a page that the extension has seen."""
    page = context(suffix)
    sphinx_site.offer_copies(None, pagename, "page.html", page, None)
    parts = [part for group in page["header_buttons"] for part in group.get("buttons", [group])]
    return {part["label"]: part.get("url") for part in parts}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("BOOK_REPOSITORY_URL", "BOOK_SITE_BRANCH"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_repository_there_is_no_launch_button():
    found = buttons("book/01-one", ".ipynb")
    assert found == {
        "download-source-button": "../notebooks/01-one.ipynb",
        "download-pdf-button": None,
        "fullscreen-button": None,
    }


def test_colab_opens_the_published_copy(monkeypatch):
    monkeypatch.setenv("BOOK_REPOSITORY_URL", "https://github.com/me/plbook/")
    colab = "https://colab.research.google.com/github/me/plbook/blob/gh-pages/notebooks/01-one.ipynb"
    assert buttons("book/01-one", ".ipynb")["colab-button"] == colab
    monkeypatch.setenv("BOOK_SITE_BRANCH", "site")
    assert buttons("book/01-one", ".ipynb")["colab-button"] == colab.replace("gh-pages", "site")


def test_colab_is_offered_for_its_own_host_only(monkeypatch):
    monkeypatch.setenv("BOOK_REPOSITORY_URL", "https://gitlab.com/me/plbook")
    assert "colab-button" not in buttons("book/01-one", ".ipynb")


def test_a_page_that_is_no_notebook_keeps_its_buttons(monkeypatch):
    monkeypatch.setenv("BOOK_REPOSITORY_URL", "https://github.com/me/plbook")
    found = buttons("book/glossary", ".md")
    assert "colab-button" not in found and found["download-source-button"] == "../_sources/book/01-one.ipynb"


@pytest.mark.parametrize("url", ["", "https://github.com/me/plbook"])
def test_the_theme_launches_nothing_itself(monkeypatch, url):
    monkeypatch.setenv("BOOK_REPOSITORY_URL", url)

    class Config:
        html_theme_options = {"launch_buttons": {"binderhub_url": "https://mybinder.org"}}

    sphinx_site.set_theme_options(None, Config)
    options = Config.html_theme_options
    assert options["launch_buttons"] == {}
    assert options.get("repository_url") == (url or None)
    assert bool(options.get("use_repository_button")) == bool(url)
