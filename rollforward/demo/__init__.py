"""The demo: an audit of the standard library that loses a worker and its orchestrator, and is resumed."""
