from datetime import datetime, timedelta, timezone

import pytest

from rollforward.cli.output import print_document, print_rows


@pytest.mark.parametrize("said", ["[red]a[/red]", "[link=https://example.org]a", "\\[a]"])
def test_a_cell_shows_what_looks_like_markup_as_it_is(capsys, said):
    print_rows([{"key": said}], "table", columns=("key",))
    print_document({"key": said}, "table")
    assert capsys.readouterr().out.count(said) == 2


def test_a_cell_commands_no_terminal(capsys):
    print_rows([{"key": "a\x1b[2J\x1b]0;title\x07"}], "table", columns=("key",))
    assert "a\\x1b[2J\\x1b]0;title\\x07" in capsys.readouterr().out


def test_a_table_has_times_in_utc_and_numbers_to_the_millisecond(capsys):
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
    print_rows([{"at": at, "seconds": 0.173260185008985}], "table", columns=("at", "seconds"))
    assert capsys.readouterr().out.split() == ["at", "seconds", "2026-01-02", "01:04:05.678Z", "0.173"]
