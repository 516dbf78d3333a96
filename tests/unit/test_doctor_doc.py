"""`docs/doctor.md` lists the checks that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r'\b(?:well|warning|refused|refused_by|clock)\(\s*"(\w+)"|\bcheck\b[^=\n]*= "(\w+)"')


def test_every_check_is_in_the_table_and_no_other():
    sources = sorted((ROOT / "rollforward/cli/examination").glob("*.py"))
    checks = {one or other for source in sources for one, other in NAMED.findall(source.read_text())}
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs/doctor.md").read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    computed = {"code_version", "rollforward_version"}
    assert listed == checks | computed
    assert len(listed) > 25
