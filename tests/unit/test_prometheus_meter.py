"""Metrics as a Prometheus reads them, and where they are served."""

import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter, values

from backends.opening import DriverMissing
from backends.telemetry.exporter import MetricsNotServed, OrchestratorMetrics
from backends.telemetry.opening import open_orchestrator_metrics, open_worker_metrics
from backends.telemetry.process_folder import PREFIX, YOUNG_SECONDS, ProcessFolder
from backends.telemetry.prometheus import PrometheusMeter
from backends.telemetry.worker import WorkerMetrics
from orchestrator.metrics.metric import (
    METRICS,
    RUNS_DRIVEN,
    RUNS_TAKEN,
    WORKER_DELIVERIES,
    WORKER_LEASES,
    WORKER_REFUSED,
    Kind,
    Metric,
)
from rollforward import hosting
from rollforward.cli.setting import SettingsRefused, read_settings
from tests.service.scraping import scrape
from workers.settings import Settings

TOTAL = Metric("a_total", Kind.COUNTER, "Counted.", ("graph",))
SUM = Metric("a_sum_of_shares", Kind.GAUGE, "Summed.")
PEAK = Metric("a_peak", Kind.PEAK, "The largest.")
AGE = Metric("an_age_seconds", Kind.AGE, "The oldest.")
LOOPBACK = "127.0.0.1"


@pytest.fixture
def meter():
    return PrometheusMeter([TOTAL, SUM, PEAK, AGE])


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Temporary folders of this test's own; what a worker changes in its process is put back."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "put back")
    return tmp_path


def test_a_gauge_is_what_all_shares_come_to(meter):
    for one, two in ((SUM, 5), (PEAK, 3)):
        meter.set(one, 2, of="first")
        meter.set(one, 3, of="second")
        assert meter.registry.get_sample_value(one.name) == two
    meter.set(SUM, None, of="second")
    meter.set(SUM, 1, of="first")
    assert meter.registry.get_sample_value(SUM.name) == 1


def test_an_age_is_that_of_the_oldest_and_grows_by_itself(meter, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    meter.set(AGE, 90.0, of="young")
    meter.set(AGE, 40.0, of="old")
    assert meter.registry.get_sample_value(AGE.name) == 60
    monkeypatch.setattr("time.monotonic", lambda: 101.0)
    assert meter.registry.get_sample_value(AGE.name) == 61
    meter.set(AGE, None, of="old")
    assert meter.registry.get_sample_value(AGE.name) == 11
    meter.set(AGE, None, of="young")
    assert meter.registry.get_sample_value(AGE.name) == 0


def test_a_metric_that_cannot_be_counted_is_said_once_and_stops_nobody(meter, caplog):
    for labels in ((), ("two", "labels")):
        meter.add(TOTAL, labels)
        meter.observe(WORKER_DELIVERIES, 1.0, labels)
        meter.set(WORKER_LEASES, 1.0, labels)
    assert [record.metric for record in caplog.records] == [TOTAL.name]
    meter.add(TOTAL, ("tiny",), 2)
    assert meter.registry.get_sample_value(TOTAL.name, {"graph": "tiny"}) == 2


def test_the_unit_of_every_metric_is_in_its_name():
    assert [one.name for one in METRICS if not one.name.startswith("rollforward_")] == []
    assert [one.name for one in METRICS if (one.kind is Kind.COUNTER) != one.name.endswith("_total")] == []
    assert [one.name for one in METRICS if one.kind is Kind.AGE and not one.name.endswith("_age_seconds")] == []
    assert len({one.name for one in METRICS}) == len(METRICS)
    assert {label for one in METRICS for label in one.labels} == {
        "graph",
        "fan_out",
        "outcome",
        "state",
        "answer",
        "worker",
        "rows",
    }


def test_a_process_in_the_place_of_a_dead_one_counts_on_and_holds_nothing(own_folder):
    metrics = WorkerMetrics((LOOPBACK, 0))
    try:
        for count in (2, 3):
            meter = metrics.begin_process("0")
            assert read(metrics).value(WORKER_LEASES.name) == 0
            meter.add(WORKER_DELIVERIES, ("tiny",), count)
            meter.set(WORKER_LEASES, 4)
        assert read(metrics).value(WORKER_DELIVERIES.name, graph="tiny") == 5
        metrics.begin_process("1").add(WORKER_DELIVERIES, ("tiny",))
        assert read(metrics).value(WORKER_DELIVERIES.name) == 6
        assert read(metrics).value(WORKER_LEASES.name) == 4
        metrics.tell(lambda: [(WORKER_REFUSED, ("me@here",), 7)])
        assert read(metrics).value(WORKER_REFUSED.name, worker="me@here") == 7
    finally:
        metrics.close()
    assert list(own_folder.iterdir()) == []


def test_what_users_count_is_served_whenever_they_have_made_it(own_folder):
    metrics = WorkerMetrics((LOOPBACK, 0))
    try:
        plain = Counter("of_a_user", "Without labels.", registry=CollectorRegistry())
        plain.inc()
        for place in ("0", "1"):
            metrics.begin_process(place)
            plain.inc()
            Counter("made_late", "In a process.", registry=CollectorRegistry()).inc()
        assert [read(metrics).value(name) for name in ("of_a_user_total", "made_late_total")] == [3, 2]
    finally:
        metrics.close()


def test_an_orchestrator_counts_in_memory_whatever_the_environment_says(own_folder, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(own_folder / "not there"))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
    metrics = open_orchestrator_metrics((LOOPBACK, 0))
    try:
        metrics.meter.add(RUNS_TAKEN, ("tiny",))
        metrics.meter.set(RUNS_DRIVEN, 2, ("tiny",))
        assert [read(metrics).value(one.name, graph="tiny") for one in (RUNS_TAKEN, RUNS_DRIVEN)] == [1, 2]
    finally:
        metrics.close()
    assert list(own_folder.iterdir()) == []


def read(metrics: WorkerMetrics | OrchestratorMetrics):
    return scrape(int(metrics.url.rpartition(":")[2].removesuffix("/metrics")))


def test_only_this_user_reads_what_processes_count(own_folder):
    folder = ProcessFolder()
    assert folder.path.parent == own_folder
    assert folder.path.stat().st_mode & 0o777 == 0o700
    for _ in range(2):
        folder.remove()
        assert not folder.path.exists()


def test_what_a_killed_worker_has_left_is_removed_by_the_next_one(own_folder):
    live, left, young = ProcessFolder(), own_folder / f"{PREFIX}left", own_folder / f"{PREFIX}young"
    for path in (left, young):
        path.mkdir()
    (left / "counter_0.db").touch()
    for path in (live.path, left):
        os.utime(path, (0, path.stat().st_mtime - 2 * YOUNG_SECONDS))
    another = ProcessFolder()
    assert set(own_folder.iterdir()) == {live.path, young, another.path}
    live.remove()
    another.remove()


def test_a_process_that_has_no_files_to_count_in_counts_nothing_and_goes_on(own_folder, caplog):
    metrics = WorkerMetrics((LOOPBACK, 0))
    try:
        (folder,) = own_folder.iterdir()
        (folder / "counter_0.db").mkdir()
        metrics.begin_process("0").add(WORKER_DELIVERIES, ("tiny",))
    finally:
        metrics.close()
    assert [record.message for record in caplog.records] == ["metrics cannot be kept, none are counted in this process"]


@pytest.mark.parametrize("opened", [open_orchestrator_metrics, open_worker_metrics])
def test_a_port_that_is_taken_is_refused_with_what_to_do(opened, own_folder):
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = taken.getsockname()
        with pytest.raises(MetricsNotServed, match=f"{LOOPBACK}:{address[1]}.*a port of its own"):
            opened(address)
    assert list(own_folder.iterdir()) == []


def test_a_host_that_there_is_not_is_refused():
    with pytest.raises(MetricsNotServed, match=r"host\.invalid:9000"):
        open_orchestrator_metrics(("host.invalid", 9000))


@pytest.mark.parametrize("opened", [open_orchestrator_metrics, open_worker_metrics])
def test_a_missing_package_says_what_to_install(opened, monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "prometheus_client" or name.startswith("backends.telemetry."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(DriverMissing, match=r"^ROLLFORWARD_METRICS needs .*pip install 'rollforward\[metrics\]'$"):
        opened((LOOPBACK, 0))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("off", None),
        ("9100", (LOOPBACK, 9100)),
        ("0", (LOOPBACK, 0)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::]:9100", ("::", 9100)),
        ("metrics.example:80", ("metrics.example", 80)),
    ],
)
def test_metrics_are_served_on_the_loopback_unless_a_host_is_given(text, address):
    assert Settings(metrics=text).metrics_address == address


@pytest.mark.parametrize("text", ["", "on", ":9100", "host", "host:", "70000", "-1", "1.5", "host:9x"])
def test_an_address_that_is_none_is_refused_with_one_sentence(text):
    with pytest.raises(SettingsRefused, match=r"setting ROLLFORWARD_METRICS is refused: .*a port"):
        read_settings(metrics=text)


def test_a_worker_that_a_run_starts_for_itself_serves_no_metrics(tmp_path, monkeypatch):
    given = dict[str, str]()

    @contextmanager
    def deployment(*_: object, environment: Mapping[str, str], **__: object) -> Iterator[None]:
        given.update(environment)
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hosting, "Deployment", deployment)
    with hosting.hosted(Settings(metrics="9464"), "celery", workers=1):
        assert Settings(metrics=given["ROLLFORWARD_METRICS"]).metrics_address is None
