"""Traces of a thousand instances on two workers, one of which is killed, and of a run that is resumed."""

import signal
from collections import Counter
from collections.abc import Set
from pathlib import Path

import pytest

from orchestrator.llm.call import SPAN_NAME
from tests.service.chat_server import Answer, Asked, ChatServer, refused, said
from tests.service.deployment import AT_ONCE, Deployment
from tests.service.otlp import Collector, SeenSpan, twice, without_parent
from tests.service.redis import RedisServer
from tests.service.shared import made_once
from tests.service.worker import wait_until

COUNT = 1000
RUN = "traced"
QUIET = ("--progress", "none", "-o", "json")
TASK_RUN, TASK_PUBLISH = "run/rollforward.run_instance", "apply_async/rollforward.run_instance"

pytestmark = pytest.mark.timeout(180)


def answer(asked: Asked) -> Answer:
    """The square of the number; every seventh is told to come again at its first attempt."""
    number, attempt = asked.body["seed"], asked.body["temperature"]
    if number % 7 == 0 and attempt == 0:
        return refused(429, retry_after="0")
    return said(str(number**2), id=f"chat-{number}")


class Trace:
    """The spans of one deployment, found by what they are."""

    def __init__(self, spans: list[SeenSpan]) -> None:
        self.spans = spans
        self._by_id = {(span.trace_id, span.span_id): span for span in spans}

    def parent(self, span: SeenSpan) -> SeenSpan:
        return self._by_id[span.trace_id, span.parent_id or ""]

    def named(self, name: str) -> list[SeenSpan]:
        return [span for span in self.spans if span.name == name]

    def instance_of(self, span: SeenSpan) -> SeenSpan:
        """The instance that a span is inside of."""
        while span.get("fan_out.parent_node_name") is None:
            span = self.parent(span)
        return span

    @property
    def instances(self) -> list[SeenSpan]:
        return [span for span in self.spans if span.get("fan_out.parent_node_name")]

    @property
    def roots(self) -> list[SeenSpan]:
        return sorted(self.named("rollforward.invocation"), key=lambda span: span.start)


@pytest.fixture(scope="module")
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What was received of a run that lost a worker, was left by its first orchestrator and resumed by another."""

    def received() -> list[SeenSpan]:
        return _received(request.getfixturevalue("redis_server"), tmp_path_factory.mktemp("traced"))

    return Trace(made_once(tmp_path_factory, "traced", received))


def _received(redis_server: RedisServer, folder: Path) -> list[SeenSpan]:
    with Collector() as collector, ChatServer(answer) as chat:
        environment = {**collector.environment, "ASKED_URL": chat.base_url}
        url = f"sqlite:///{folder / 'state.db'}"
        deployed = Deployment(folder, redis_server, url, graphs=["tests.graph.asked"], environment=environment)
        try:
            _run(deployed, chat)
        finally:
            deployed.close()
        return collector.spans


def _run(deployed: Deployment, chat: ChatServer) -> None:
    lost = deployed.worker("lost")
    deployed.worker("kept")
    numbers = f"numbers={list(range(COUNT))}"
    first = deployed.begin("run", "tests.graph.asked:graph", "--set", numbers, "--run-id", RUN, *QUIET)
    wait_until(lambda: len(chat.asked) > COUNT / 4, what="a quarter is asked")
    lost.kill()
    wait_until(lambda: len(chat.asked) > COUNT / 2, what="half is asked")
    first.send_signal(signal.SIGINT)
    first.wait(timeout=30)
    deployed.command("resume", RUN, *QUIET)


def _all_but_what_was_lost(indexes: Set[int]) -> bool:
    """Whether these are all, but for the instances that the killed processes had reported and not sent the spans of."""
    return len(indexes) >= COUNT - AT_ONCE and indexes <= set(range(COUNT))


def test_no_span_lacks_its_parent_and_none_came_twice(traced: Trace) -> None:
    assert without_parent(traced.spans) == []
    assert twice(traced.spans) == []


def test_each_invocation_has_one_trace_and_a_resumed_one_has_its_own(traced: Trace) -> None:
    first, resumed = traced.roots
    assert first.trace_id != resumed.trace_id
    assert first["invocation_id"] == first["run_id"] == resumed["run_id"] != resumed["invocation_id"]
    assert {span.trace_id for span in traced.spans} == {first.trace_id, resumed.trace_id}
    assert (first.status, first.description, resumed.status) == ("ERROR", "cancelled", "OK")
    nodes = sorted((span for span in traced.spans if span.get("fan_out.item_count")), key=lambda span: span.start)
    began, went_on = (node["fan_out.rolled_forward"] for node in nodes)
    assert began == 0 < went_on < COUNT


def test_the_correlation_id_is_on_every_span(traced: Trace) -> None:
    (known,) = {root["correlation_id"] for root in traced.roots}
    assert {span.get("correlation_id") for span in traced.spans} == {known}


def test_every_instance_is_traced_under_the_node_it_is_run_for_and_linked_to_its_task(traced: Trace) -> None:
    done = [span for span in traced.instances if span["outcome"] == "succeeded"]
    assert _all_but_what_was_lost({span["node.fan_out_index"] for span in done})
    tasks = {(span.trace_id, span.span_id): span for span in traced.named(TASK_RUN)}
    first, resumed = (root.trace_id for root in traced.roots)
    for span in done:
        node = traced.parent(span)
        assert (node.name, node["fan_out.item_count"]) == ("questions", COUNT)
        (link,) = span.links
        assert traced.parent(tasks[link]).name == TASK_PUBLISH
        sender = traced.parent(traced.parent(tasks[link]))
        # A message of the first run that comes to a worker after the resume is the resumed run's.
        assert sender == node or (sender.trace_id, span.trace_id) == (first, resumed)
    assert {span.trace_id for span in done} == {first, resumed}


def test_each_call_is_under_the_attempt_of_its_own_instance_that_made_it(traced: Trace) -> None:
    calls = traced.named(SPAN_NAME)
    for call in calls:
        attempt = traced.parent(call)
        assert attempt.name == "ask"
        assert attempt["node.attempt_index"] == call.attributes["gen_ai.request.temperature"]
        assert traced.instance_of(call)["node.fan_out_index"] == call.attributes["gen_ai.request.seed"]
        assert call["user.number"] == call.attributes["gen_ai.request.seed"]
    assert _all_but_what_was_lost({call.attributes["gen_ai.request.seed"] for call in calls})
    again = {call.attributes["gen_ai.request.seed"] for call in calls if call.attributes["gen_ai.request.temperature"]}
    assert again == {call.attributes["gen_ai.request.seed"] for call in calls} & set(range(0, COUNT, 7))


def test_a_publish_span_lasts_until_the_message_is_published(traced: Trace) -> None:
    published = traced.named(TASK_PUBLISH)
    assert len(published) >= COUNT
    assert all(span.attributes["celery.action"] == "apply_async" and span.end > span.start for span in published)


def test_instrumented_clients_are_traced_under_what_uses_them(traced: Trace) -> None:
    over = {(traced.parent(span).name, span.scope.rpartition(".")[2]) for span in traced.spans if "instr" in span.scope}
    assert {(SPAN_NAME, "httpx"), ("store", "sqlalchemy")} <= over
    requests = [span for span in traced.spans if span.scope.endswith("httpx")]
    assert {traced.parent(span).name for span in requests} == {SPAN_NAME}
    assert len(requests) == len(traced.named(SPAN_NAME))


def test_of_instances_that_are_not_traced_nothing_is_nor_of_what_we_do_ourselves(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Collector() as collector:
        environment = {**collector.environment, "ROLLFORWARD_TRACE_MOST": "2"}
        url, graph = f"sqlite:///{tmp_path / 'state.db'}", "tests.graph.clients"
        deployed = Deployment(tmp_path, redis_server, url, graphs=[graph], environment=environment)
        try:
            deployed.worker("seeing")
            deployed.command("run", f"{graph}:graph", "--set", "numbers=[0, 1, 2, 4, 5, 6]", *QUIET)
            traced = Trace(collector.spans)
            collector.clear()
            environment["OTEL_SDK_DISABLED"] = "true"
            unseen = Deployment(tmp_path, redis_server, url, graphs=[graph], environment=environment)
            unseen.command("run", f"{graph}:graph", "--set", "numbers=[0, 1, 2]", *QUIET)
        finally:
            deployed.close()
        counts = [len(traced.named(name)) for name in (TASK_PUBLISH, TASK_RUN, "square")]
        assert counts == [2, 2, 2]
        queries = [span for span in traced.spans if span.scope.endswith("sqlalchemy") and span.name != "connect"]
        assert Counter(traced.parent(span).name for span in queries) == {"square": 2, "add": 1}
        assert len(traced.roots) == len([span for span in traced.spans if span.parent_id is None]) == 1
        assert collector.spans == []
