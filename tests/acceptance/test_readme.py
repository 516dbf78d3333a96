"""Every command and every Python block that the documents show does what they say."""

import email
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs/quickstart.md").read_text()
GRAPHS = (ROOT / "docs/graphs.md").read_text()
ELSEWHERE = {
    "make demo": "tests/acceptance/test_demo.py plays the demo",
    "make test": "is this run",
}


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    return [line.partition("  #")[0].rstrip() for block in blocks(document, "sh") for line in block.splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the README's commands name, and no run in it.

    Its audit looks at one package and one broken file: the demo, which another test plays, audits the whole library.
    """
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    audited = tmp_path / "audited"
    shutil.copytree(Path(email.__file__).parent, audited, ignore=shutil.ignore_patterns("__pycache__"))
    (audited / "broken.py").write_text("def")
    audit = tmp_path / "examples" / "stdlib_audit.py"
    source, library = audit.read_text(), 'sysconfig.get_path("stdlib")'
    assert source.count(library) == 1
    audit.write_text(source.replace(library, repr(str(audited))))
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """A user's, with the checkout's environment activated and nothing configured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLFORWARD_", "CELERY_"))}
    return {**kept, "PATH": os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))}


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def test_what_is_executed_elsewhere_is_in_the_readme() -> None:
    assert set(ELSEWHERE) <= set(commands(README))


@pytest.mark.timeout(600)
def test_the_commands_of_the_readme_succeed_one_after_the_other(checkout: Path, environment: dict[str, str]) -> None:
    shown = [command for command in commands(README) if command not in ELSEWHERE]
    assert shown
    for command in shown:
        run(["bash", "-c", command], checkout, environment)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", blocks(README, "python") + blocks(QUICKSTART, "python") + blocks(GRAPHS, "python"))
def test_a_python_block_runs_as_a_program(source: str, checkout: Path, environment: dict[str, str]) -> None:
    (checkout / "shown.py").write_text(source)
    run([sys.executable, "shown.py"], checkout, environment)


def test_the_word_count_counts_the_words_of_the_readme(checkout: Path, environment: dict[str, str]) -> None:
    [command] = [command for command in commands(README) if "word_count" in command]
    done = run(["bash", "-c", f"{command} -o json"], checkout, environment)
    assert f'"total": {len(README.split())}' in re.sub(r'":\s*', '": ', done.stdout)


def test_every_setting_of_the_readme_is_one(environment: dict[str, str], tmp_path: Path) -> None:
    printed = run([sys.executable, "-m", "rollforward", "config", "-o", "json"], tmp_path, environment).stdout
    settings = set(re.findall(r"`ROLLFORWARD_(\w+)`", README))
    assert [name for name in settings if name.lower() not in printed.lower()] == []


def test_every_command_of_the_readme_exists(environment: dict[str, str], tmp_path: Path) -> None:
    table = README.partition("\n## Commands\n")[2].partition("\n## ")[0]
    shown = {name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)}
    helped = run([sys.executable, "-m", "rollforward", "--help"], tmp_path, environment).stdout
    assert set(re.findall(r"^  (\w+)  ", helped, re.MULTILINE)) == shown
