"""README and docs: short, and true of the tree: links, folders, imports."""

import ast
import importlib
import re
from functools import cache
from operator import attrgetter
from pathlib import Path

import nbformat
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


@cache
def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them; of a notebook's, as JupyterLab does."""
    if page.suffix == ".ipynb":
        cells = nbformat.read(page, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        return {h.replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}
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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_that_is_a_link_stands_in_its_file(page):
    for name, link in re.findall(r"\[`([\w.]+)`\]\(([^)\s]+\.py)\)", page.read_text()):
        file = (page.parent / link).resolve().relative_to(ROOT)
        attrgetter(name)(importlib.import_module(".".join(file.with_suffix("").parts)))


def test_the_map_has_every_equation_and_figure_of_the_report():
    rows = re.findall(r"^\| \*\*(\d+)\*\* (.*)$", (ROOT / "docs/REPORT_MAP.md").read_text(), re.M)
    assert [int(number) for number, _ in rows] == [*range(1, 13), *range(1, 6)]
    assert all("(../notebooks/" in row for _, row in rows)


def test_the_glossary_is_in_order_and_every_term_leads_somewhere():
    terms = re.findall(r"^### (.*)\n(.*)$", (ROOT / "docs/GLOSSARY.md").read_text(), re.M)
    names = [name.lower() for name, _ in terms]
    assert names == sorted(names)
    assert len(names) > 60
    assert all("](" in meaning for _, meaning in terms)


@pytest.mark.parametrize(("page", "source"), blocks("python"))
def test_every_import_of_an_example_is_there(page, source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{page}: {node.module}.{alias.name}"
