"""What `rollforward doctor` says of a deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.service.cli import CommandLine

Finding = Mapping[str, Any]

OF_THIS_HOST = "database_file_system"
"""Where tests run, their folder may be in memory, of which `doctor` warns rightly."""


@dataclass(frozen=True, slots=True)
class Examined:
    """The exit code, and every finding."""

    code: int
    findings: Sequence[Finding]

    def of(self, check: str, subject: str = "") -> Finding:
        """The one finding of a check; `subject` where it looks at several."""
        (found,) = (one for one in self.findings if (one["check"], one["subject"]) == (check, subject))
        return found

    def bad(self) -> set[tuple[str, str, str]]:
        """Check, subject and severity of what is not well."""
        return {
            (one["check"], one["subject"], one["severity"])
            for one in self.findings
            if one["severity"] != "ok" and one["check"] != OF_THIS_HOST
        }


def examined(cli: CommandLine) -> Examined:
    """Run `doctor` with the settings of this command line."""
    ended = cli.run("doctor", "-o", "json")
    return judged(ended.code, ended.document)


def judged(code: int, document: Mapping[str, Any]) -> Examined:
    """What it printed, in the shape that it promises."""
    found = Examined(code, document["findings"])
    for one in found.findings:
        assert set(one) == {"check", "subject", "severity", "found", "way_out"}
        assert bool(one["way_out"]) == (one["severity"] != "ok"), one
    is_refused = any(one["severity"] == "refused" for one in found.findings)
    assert document["ok"] is not is_refused
    assert code == int(is_refused), found.bad()
    return found
