"""What the documents point to exists, and what they show is what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
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


def test_the_errors_of_the_glossary_are_those_of_the_code() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text()
    categories = re.findall(r'^    category = "(\w+)"$', (ROOT / "orchestrator/errors.py").read_text(), re.MULTILINE)
    assert [category for category in categories if f"`{category}`" not in glossary] == []
