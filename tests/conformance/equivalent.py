"""Expected leaves that another value cannot make fail, and why."""

from fnmatch import fnmatch

REASONS: dict[str, str] = {
    "*error_category_not.reversed": "the categories are a set",
    "*state_one_of.reversed": "the states are a set",
    "*determinism_check.compare_runs.reversed": "the first is compared with the second either way",
    "*determinism_check.compare.reversed": "the parts that are compared are a set",
    "*determinism_check.ignore_attributes.reversed": "the attributes that are ignored are a set",
    "*determinism_check.ignore_attributes.2": "no span has an attribute of its time",
    "*attributes_absent.reversed": "the attributes that are absent are a set",
    "*outermost_events_have_no_branch_name.nodes.reversed": "the names are a set",
}
"""`folder/file::case place`, with `*` for anything, to the reason."""


def reason_of(address: str, place: tuple[str | int, ...]) -> str | None:
    """Why a changed leaf there means the same; None where it does not."""
    shown = f"{address} {'.'.join(map(str, place))}"
    return next((reason for pattern, reason in REASONS.items() if fnmatch(shown, pattern)), None)
