"""README and docs: short, and true of the tree: links, folders, imports."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_LINES = 130


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, source) of every block of code in a language."""
    return [
        (str(page.relative_to(ROOT)), block)
        for page in PAGES
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)
    ]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_readme_is_read_in_minutes():
    assert len(README.splitlines()) <= MOST_LINES


def test_readme_lists_every_notebook():
    rows = re.findall(r"^\| (\d\d) \| \[[^]]*\]\((notebooks/[^)]*)\)", README, re.M)
    there = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert [Path(path).name for _, path in rows] == there
    assert [number for number, _ in rows] == [name[:2] for name in there]


def test_readme_s_tree_is_the_library_s():
    tree = re.findall(r"^  (\w+)/ ", README, re.M)
    folders = [path.parent.name for path in (ROOT / "facerecon_lib").glob("*/__init__.py")]
    assert sorted(tree) == sorted(folders)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize(("page", "source"), blocks("python"))
def test_every_import_of_an_example_is_there(page, source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{page}: {node.module}.{alias.name}"
