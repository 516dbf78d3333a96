"""What a Prometheus reads from a process."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of one scrape; `families` are the metrics that it has, also those without any sample."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    families: frozenset[str] = field(default_factory=frozenset)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with these labels, whatever others they have."""
        wanted = set(labels.items())
        return sum(value for (one, given), value in self.values.items() if one == name and wanted <= given)


def scrape(port: int) -> Scrape:
    """Read the metrics that are served at a port of this host."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples]
    values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    return Scrape(values, frozenset(names))
