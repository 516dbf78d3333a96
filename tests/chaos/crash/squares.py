"""A fan-out whose instances come one after the other, so that an instance's number is that of its arrival."""

from tests.graph.witnessed import squares_of

graph = squares_of("crashed", concurrency=1)
