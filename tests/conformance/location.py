"""Where the fixtures are, unless somebody says so."""

from pathlib import Path

DEFAULT = Path(__file__).parents[3] / "shared" / "conformance"

FIXTURES = "ROLLFORWARD_CONFORMANCE_FIXTURES"
"""The environment variable that tells workers their folder."""
