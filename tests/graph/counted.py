"""No graph; it counts with a metric of its own how often it was imported."""

from prometheus_client import Counter

Counter("imported", "Made, as users make them, where a module is imported.").inc()
