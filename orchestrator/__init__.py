"""The engine: state, graph, fan-out and resume, on pydantic and the standard library only."""
