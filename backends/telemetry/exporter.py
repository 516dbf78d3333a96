"""Serves metrics over HTTP, for a Prometheus to scrape."""

from prometheus_client import CollectorRegistry, start_http_server

from backends.telemetry.prometheus import PrometheusMeter, WithoutCreated, registry_of
from orchestrator.errors import OperatorError
from orchestrator.metrics.metric import METRICS_OF_ORCHESTRATORS

Address = tuple[str, int]
"""A host and a port; port 0 is any that is free."""


class MetricsNotServed(OperatorError):
    """Metrics cannot be served at the address that was asked for."""

    category = "metrics_not_served"

    def __init__(self, address: Address, reason: str) -> None:
        self.address = address
        host, port = address
        super().__init__(
            f"metrics cannot be served at {host}:{port} ({reason}); give each process of a host a port of its own in "
            "ROLLFORWARD_METRICS, or 0 for any that is free"
        )


class Exporter:
    """A server of metrics, on a thread that ends with its process.

    Raises:
        MetricsNotServed: the address is taken, or none of this host.
    """

    def __init__(self, registry: CollectorRegistry, address: Address) -> None:
        host, port = address
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise MetricsNotServed(address, error.strerror or str(error)) from error

    @property
    def url(self) -> str:
        """Where they are served."""
        host, port = self._server.server_address[:2]
        shown = str(host)
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/metrics"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def forsake(self) -> None:
        """Let go of the socket in a process that was forked, whose parent goes on serving."""
        self._server.socket.close()


class OrchestratorMetrics:
    """The metrics of an orchestrator, served at an address until they are closed."""

    def __init__(self, address: Address) -> None:
        self.meter = PrometheusMeter(METRICS_OF_ORCHESTRATORS)
        self._exporter = Exporter(registry_of(WithoutCreated(self.meter.registry)), address)
        self.url = self._exporter.url

    def close(self) -> None:
        """Stop serving."""
        self._exporter.close()
