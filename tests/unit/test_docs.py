"""What the documents point to exists, and what they show is what is there."""

import ast
import re
from pathlib import Path

import pytest

from workers.settings import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
SOURCES = sorted(
    path for layer in ("orchestrator", "backends", "workers", "rollforward") for path in (ROOT / layer).rglob("*.py")
)
CATEGORIES = (
    re.compile(r'^ +category = "(\w+)"$', re.MULTILINE),
    re.compile(r'fan_out_category="(\w+)"'),
    re.compile(r'Compile(?:Error|Warning)\(\s*"(\w+)"'),
)
FORBIDDEN = re.compile(r"/work\b|\.\./shared|localhost:\d{5}")

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@each_document
def test_an_internal_link_resolves(path: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(path.read_text()):
        document = (path.parent / target).resolve() if target else path
        if not document.exists() or (anchor and anchor not in anchors(document)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


@each_document
def test_a_document_names_no_place_of_one_machine(path: Path) -> None:
    assert FORBIDDEN.findall(path.read_text()) == []


@each_document
def test_a_file_that_a_document_names_is_there(path: Path) -> None:
    named = re.findall(
        r"`((?:orchestrator|backends|workers|rollforward|examples|tests|deploy)/(?!\.)[\w./]*)`", path.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_shows_the_word_count_verbatim() -> None:
    assert (ROOT / "examples/word_count.py").read_text() in (ROOT / "README.md").read_text()


def test_the_readme_names_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in Settings.model_fields if f"`ROLLFORWARD_{name.upper()}`" not in readme] == []


def test_every_page_of_docs_is_linked_from_readme_or_another_page() -> None:
    linked = {
        (document.parent / target).resolve()
        for document in DOCUMENTS
        for target, _ in LINK.findall(document.read_text())
        if target
    }
    assert [page for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in linked] == []


def test_make_documents_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    assert phony == set(re.findall(r"^([a-z]+):.* ## ", makefile, re.MULTILINE))


def test_the_categories_of_the_glossary_are_those_of_the_code() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text()
    assert len(categories()) > 50
    assert sorted(name for name in categories() if f"`{name}`" not in glossary) == []


def categories() -> set[str]:
    """Every category that the code gives to an error, a warning or a fan-out's failure."""
    return {name for path in SOURCES for pattern in CATEGORIES for name in pattern.findall(path.read_text())}


def test_the_tree_of_errors_names_every_error() -> None:
    tree = ast.get_docstring(ast.parse((ROOT / "orchestrator/errors.py").read_text())) or ""
    assert sorted(name for name in errors() if not re.search(rf"\b{name}\b", tree)) == []


def errors() -> set[str]:
    """The name of every class that descends from ours, in any package."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    found = {"RollforwardError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found
