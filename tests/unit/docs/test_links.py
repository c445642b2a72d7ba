"""The links in the documentation have targets."""

from urllib.parse import unquote

import pytest

from tests.pages import ROOT, Page, page, pages

# Pages outside ``docs`` that other pages link to with anchors.
OTHERS = ("CHANGELOG.md", "tests/bench/RESULTS.md")


@pytest.mark.parametrize("one", pages(), ids=lambda one: one.path)
def test_local_links_lead_to_files_and_headings(one: Page) -> None:
    for link in one.links():
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (one.folder / path).resolve() if path else ROOT / one.path
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        assert target.exists(), f"{link} does not exist"
        if anchor:
            found = page(target.relative_to(ROOT).as_posix())
            assert anchor in found.anchors(), f"{link} names no heading"


def test_the_index_lists_every_page() -> None:
    linked = set(page("docs/README.md").links())
    for one in pages():
        folder, _, name = one.path.rpartition("/")
        if folder == "docs" and name != "README.md":
            assert name in linked, name


@pytest.mark.parametrize("path", OTHERS)
def test_other_pages_have_headings_to_link_to(path: str) -> None:
    assert page(path).anchors()
