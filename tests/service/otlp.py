"""A collector of traces: it receives spans over OTLP/HTTP from every process, and keeps them."""

import gzip
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

STATUSES = ("UNSET", "OK", "ERROR")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """What a span tells of a moment."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSpan:
    """A span as it was received. Ids are lower hexadecimal digits, `links` pairs of them, times nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    status: str = "UNSET"
    description: str = ""
    events: Sequence[SeenEvent] = ()
    links: Sequence[tuple[str, str]] = ()
    start: int = 0
    end: int = 0
    scope: str = ""
    kind: int = 0

    def __getitem__(self, name: str) -> Any:
        """The attribute of that name of ours."""
        return self.attributes[f"rollforward.{name}"]

    def get(self, name: str) -> Any:
        return self.attributes.get(f"rollforward.{name}")


class Collector:
    """Listens on a free port of this host from `start` to `stop`; `environment` sends a process's spans here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[SeenSpan] = []
        self.requests = 0
        self.is_away = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # Whoever is killed while it sends hangs up.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # a hook
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "Collector":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url}

    @property
    def spans(self) -> list[SeenSpan]:
        with self._lock:
            return list(self._spans)

    def start(self) -> "Collector":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def named(self, name: str) -> list[SeenSpan]:
        return [span for span in self.spans if span.name == name]

    def clear(self) -> None:
        with self._lock:
            self._spans.clear()

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        seen = list(_seen(request))
        with self._lock:
            self._spans += seen
            self.requests += 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                status = 503 if collector.is_away else 200
                if status == 200:
                    collector._take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *_: Any) -> None:
                return None

        return Handler


def without_parent(spans: Sequence[SeenSpan]) -> list[SeenSpan]:
    """The spans whose parent was never received."""
    known = {(span.trace_id, span.span_id) for span in spans}
    return [span for span in spans if span.parent_id and (span.trace_id, span.parent_id) not in known]


def twice(spans: Sequence[SeenSpan]) -> list[str]:
    """The ids of spans that were received more than once."""
    return [span_id for span_id, count in Counter(span.span_id for span in spans).items() if count > 1]


def _seen(request: ExportTraceServiceRequest) -> Iterator[SeenSpan]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex() or None,
                    attributes=_attributes(span.attributes),
                    status=STATUSES[span.status.code],
                    description=span.status.message,
                    events=[SeenEvent(name=one.name, attributes=_attributes(one.attributes)) for one in span.events],
                    links=[(one.trace_id.hex(), one.span_id.hex()) for one in span.links],
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    scope=scope.scope.name,
                    kind=span.kind,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
