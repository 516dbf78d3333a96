"""The files of a deployment agree with the package and with each other."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from workers.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("orchestrator", "worker", "flower")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


def test_compose_has_the_services_of_a_deployment() -> None:
    assert set(SERVICES) == {"redis", "postgres", "orchestrator", "worker", "flower", "prometheus", "grafana"}
    optional = {name for name, service in SERVICES.items() if service.get("profiles") == ["observe"]}
    assert optional == {"prometheus", "grafana"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_every_service_of_compose_has_a_health_check() -> None:
    assert [name for name, service in SERVICES.items() if not service["healthcheck"]["test"]] == []


def test_compose_runs_the_commands_of_the_procfile() -> None:
    procfile = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert set(procfile) == set(OURS)
    assert procfile["orchestrator"].endswith(" ".join(SERVICES["orchestrator"]["command"]))
    assert procfile["worker"].endswith(" ".join(SERVICES["worker"]["command"]))
    for option in ("--read_only=True", "--enable_events=False", "flower"):
        assert option in procfile["flower"]
        assert option in SERVICES["flower"]["command"]


def test_the_procfile_switches_monitoring_on() -> None:
    assert all("ROLLFORWARD_MONITORING=1" in line for line in (ROOT / "Procfile").read_text().splitlines())


def test_the_commands_of_compose_are_scripts_of_the_package() -> None:
    scripts = {*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"], "celery"}
    assert {SERVICES[name]["command"][0] for name in OURS} <= scripts


@pytest.mark.parametrize("name", OURS)
def test_every_rollforward_variable_of_compose_is_a_setting(name: str) -> None:
    variables = [key for key in SERVICES[name]["environment"] if key.startswith("ROLLFORWARD_")]
    assert variables
    assert [key for key in variables if key.removeprefix("ROLLFORWARD_").lower() not in Settings.model_fields] == []


def test_redis_keeps_what_it_is_given() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_each_process_has_a_redis_user_of_its_own() -> None:
    users = {
        name: re.match(r"redis://(\w+):\$", SERVICES[name]["environment"]["ROLLFORWARD_REDIS_URL"]) for name in OURS
    }
    assert {name: user and user[1] for name, user in users.items()} == {name: name for name in OURS}


def test_redis_starts_under_the_users_that_are_described() -> None:
    described = set(re.findall(r"^user (\w+) on ", (ROOT / "deploy/redis/users.acl").read_text(), re.MULTILINE))
    passwords = {name for name in SERVICES["redis"]["environment"] if name.startswith("REDIS_")}
    assert passwords == {f"REDIS_{user.upper()}_PASSWORD" for user in described}
    assert SERVICES["redis"]["command"][:2] == ["sh", "/usr/local/share/rollforward/start"]
    assert "./redis:/usr/local/share/rollforward:ro" in SERVICES["redis"]["volumes"]


def test_the_security_page_names_each_users_keys() -> None:
    rules = re.sub(r"\n ", " ", (ROOT / "deploy/redis/users.acl").read_text())
    held = {
        user: re.findall(r"~@namespace@:(\S+)", rule) for user, rule in re.findall(r"^user (\w+) on (.*)$", rules, re.M)
    }
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    named = {user: re.findall(r"`(\S+)`", keys) for user, keys in rows}
    assert named == held


def test_only_pages_for_people_are_published_and_only_on_the_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"flower": ["127.0.0.1:5555:5555"], "grafana": ["127.0.0.1:3000:3000"]}
    assert "FLOWER_BASIC_AUTH" in SERVICES["flower"]["environment"]
    assert "GF_SECURITY_ADMIN_PASSWORD" in SERVICES["grafana"]["environment"]


def test_compose_holds_no_secret() -> None:
    passwords = re.findall(r"^.*(?:PASSWORD|SECRET).*$", (ROOT / "deploy/compose.yaml").read_text(), re.MULTILINE)
    assert passwords
    assert [line for line in passwords if "${" not in line] == []


def test_make_writes_every_secret_that_compose_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "deploy/compose.yaml").read_text()))
    recipe = re.search(r"^deploy/.env:.*?(?=^\S+:.*##)", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)
    assert recipe is not None
    assert [name for name in asked if name not in recipe[0]] == []


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE) == ["rollforward"]


def test_the_image_is_built_from_the_constraints_in_two_stages() -> None:
    assert len(re.findall(r"^FROM .*slim", DOCKERFILE, re.MULTILINE)) == 2
    assert "-c constraints.txt" in DOCKERFILE


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]
    }
    kept = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert copied == kept
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_has_every_package_of_the_wheel() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert [package for package in wheel["packages"] if f"COPY {package} {package}" not in DOCKERFILE] == []


def test_the_constraints_pin_versions_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line)] == []
    assert "rollforward" not in {line.partition("==")[0].lower() for line in lines}
