"""`import rollforward` is all that users import: cheap, whole, and not in the way of another package."""

import subprocess
import sys
from pathlib import Path

import pytest

import rollforward


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def test_every_public_name_is_there():
    assert all(getattr(rollforward, name) is not None for name in rollforward.__all__)
    assert set(rollforward.__all__) <= set(dir(rollforward))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = rollforward.nonsense


def test_the_import_loads_nothing_heavy(tmp_path):
    heavy = "{'pydantic', 'celery', 'sqlalchemy', 'redis', 'click', 'rich'}"
    ran = python(f"import rollforward, sys; print(sorted({heavy} & set(sys.modules)))", tmp_path)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_building_a_graph_needs_no_celery(tmp_path):
    code = "import sys; from rollforward import GraphBuilder, State, append; print('celery' in sys.modules)"
    assert python(code, tmp_path).stdout.strip() == "False"


@pytest.mark.parametrize("name", ["workers.py", "backends/__init__.py"])
def test_a_foreign_package_of_a_generic_name_is_named(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    ran = python("import rollforward", tmp_path)
    assert "ImportError" in ran.stderr
    assert str(tmp_path) in ran.stderr
    assert "is in the way" in ran.stderr


def test_a_folder_of_a_generic_name_that_is_no_package_is_not_in_the_way(tmp_path):
    (tmp_path / "workers").mkdir()
    assert python("import rollforward", tmp_path).returncode == 0
