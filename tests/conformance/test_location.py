"""Which fixtures are run: ours always, and nothing passes by being absent."""

from pathlib import Path

import pytest

from tests.conformance.document import PARTS, cases
from tests.conformance.location import OWN, SHARED, folders, told, told_by

CASE = "state: {fields: {}}\nentry: rest\n"


def with_a_case(folder: Path) -> Path:
    part = folder / PARTS[0]
    part.mkdir(parents=True)
    (part / "001-rest.yaml").write_text(CASE)
    return folder


def test_ours_are_run_always_and_the_shared_ones_where_they_are():
    assert folders() == [OWN, *([SHARED] if SHARED.is_dir() else [])]


def test_the_folder_that_was_asked_for_is_run_alone(tmp_path: Path):
    asked = with_a_case(tmp_path)
    assert [case.address for case in cases(folders(asked))] == [f"{PARTS[0]}/001-rest::case"]


@pytest.mark.parametrize("part", PARTS)
def test_there_are_some_of_ours_in_every_part(part: str):
    assert cases([OWN], (part,))


def test_a_folder_without_fixtures_is_refused_beside_one_that_has_some(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        cases([OWN, tmp_path])


def test_two_cases_of_one_address_are_refused_by_it(tmp_path: Path):
    with pytest.raises(ValueError, match="001-rest::case"):
        cases([with_a_case(tmp_path / "one"), with_a_case(tmp_path / "two")])


def test_workers_are_told_the_same_folders(tmp_path: Path):
    assert told_by(told([OWN, tmp_path])) == [OWN, tmp_path]
