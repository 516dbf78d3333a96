"""The dashboard, the alerts and the page on metrics agree with what the code counts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.metrics.metric import METRICS, Kind, Metric
from workers.settings import Settings

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/rollforward.json").read_text())
ALERTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus gives, or a histogram's buckets have."""


def samples(metric: Metric) -> set[str]:
    """The names under which it is read."""
    ends = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
    return {f"{metric.name}{end}" for end in ends}


BY_SAMPLE = {name: metric for metric in METRICS for name in samples(metric)}


def expressions() -> Iterator[tuple[str, str]]:
    """Every query with where it stands."""
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((rule["alert"], rule["expr"]) for rule in ALERTS)


EXPRESSIONS = [pytest.param(expression, id=f"{where}-{at}") for at, (where, expression) in enumerate(expressions())]


def named(expression: str) -> list[tuple[str, str]]:
    """Each metric of an expression with what is chosen of it."""
    return re.findall(r"\b((?:rollforward_|up\b)\w*)(?:\{([^}]*)\})?", expression)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_names_metrics_that_the_code_declares_with_their_labels(expression):
    assert named(expression)
    known: set[str] = set(OF_PROMETHEUS)
    for name, chosen in named(expression):
        labels = set(BY_SAMPLE[name].labels) if name != "up" else {"job"}
        assert set(re.findall(r"(\w+)\s*[=!]~?\"", chosen)) <= labels
        known |= labels
    grouped = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
    assert {label.strip() for one in grouped for label in one.split(",")} <= known
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_asks_of_each_kind_of_metric_what_it_can_tell(expression):
    for name, _ in named(expression):
        is_rated = re.search(rf"\b(?:rate|increase)\({name}\b", expression) is not None
        is_gauge = name == "up" or BY_SAMPLE[name].kind in (Kind.GAUGE, Kind.PEAK, Kind.AGE)
        assert is_rated != is_gauge, name
        assert name.endswith("_bucket") == (f"rate({name}" in expression and "histogram_quantile" in expression), name


def test_every_metric_is_on_the_dashboard():
    shown = {name for panel in PANELS for target in panel["targets"] for name, _ in named(target["expr"])}
    assert [metric.name for metric in METRICS if not samples(metric) & shown] == []


def test_a_legend_names_labels_that_its_query_keeps():
    for panel in PANELS:
        for target in panel["targets"]:
            kept = {label.strip() for one in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in one.split(",")}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, panel["title"]


def test_panels_do_not_overlap_and_say_what_they_show():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert [panel["title"] for panel in PANELS if not panel["description"]] == []
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_since_when_and_what_to_do(rule):
    assert re.fullmatch(r"\d+[sm]", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"]) > 80


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_shows_labels_that_it_keeps(rule):
    kept = {label.strip() for one in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in one.split(",")}
    shown = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
    assert set(shown) <= kept


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_names_commands_and_settings_that_there_are(rule):
    told = rule["annotations"]["description"]
    verbs = {path.stem for path in (ROOT / "rollforward/cli").glob("*.py")}
    assert set(re.findall(r"`rollforward (\w+)", told)) <= verbs
    settings = {f"ROLLFORWARD_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"ROLLFORWARD_\w+", told)) <= settings


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_documented_with_its_kind_and_labels(metric):
    page = (ROOT / "docs/observability.md").read_text()
    kind = "gauge" if metric.kind in (Kind.PEAK, Kind.AGE) else metric.kind.value
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    assert f"| `{metric.name}` | {kind} | {labels} |".replace("|  |", "| |") in page


def test_the_page_and_the_code_name_the_same_metrics():
    page = (ROOT / "docs/observability.md").read_text()
    assert set(re.findall(r"^\| `(rollforward_\w+)` \|", page, re.MULTILINE)) == {metric.name for metric in METRICS}


def test_prometheus_scrapes_the_services_of_compose_where_they_serve():
    services = COMPOSE["services"]
    for job in PROMETHEUS["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        (service,) = found["names"]
        address = Settings(metrics=services[service]["environment"]["ROLLFORWARD_METRICS"]).metrics_address
        assert address == ("0.0.0.0", found["port"])
        assert job["job_name"] == f"rollforward-{service}"
    assert all((ROOT / "deploy/prometheus" / name).exists() for name in PROMETHEUS["rule_files"])


def test_grafana_finds_its_dashboard_and_its_source():
    mounted = COMPOSE["services"]["grafana"]["volumes"]
    sources = [ROOT / "deploy" / one.split(":")[0] for one in mounted if one.startswith("./")]
    assert len(sources) == 3
    assert all(source.is_file() for source in sources)
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
