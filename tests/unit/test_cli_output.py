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
