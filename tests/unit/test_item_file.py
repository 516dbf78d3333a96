"""Items come from files as their names say."""

import pytest

from rollforward.cli.item_file import InputFileRefused, ItemFile, read_json


@pytest.mark.parametrize(
    ("name", "text", "values", "lines"),
    [
        ("a.txt", "one\n\ntwo", ["one", "", "two"], [1, 2, 3]),
        ("a.md", " spaces stay \n", [" spaces stay "], [1]),
        ("a.jsonl", '{"a": 1}\n\n[2]\n"x"\n', [{"a": 1}, [2], "x"], [1, 3, 4]),
        ("a.csv", 'a,b\n1,"x\ny"\n2,z\n', [{"a": "1", "b": "x\ny"}, {"a": "2", "b": "z"}], [3, 4]),
        ("a.txt", "", [], []),
        ("a.csv", "", [], []),
        ("a.jsonl", "", [], []),
    ],
)
def test_a_file_is_read_by_its_suffix(tmp_path, name, text, values, lines):
    (tmp_path / name).write_text(text)
    items = ItemFile.read(tmp_path / name)
    assert (items.values, items.lines) == (values, lines)


def test_the_mark_at_the_start_of_a_spreadsheets_csv_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfname\nx\n")
    assert ItemFile.read(tmp_path / "a.csv").values == [{"name": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"1\n{\n", "line 2: malformed JSON"),
        ("a.csv", b"a,b\n1,2,3\n", "line 2: the row does not have the header's 2 columns"),
        ("a.csv", b'a\n"x', "line 2: malformed CSV"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_what_is_malformed_is_named_with_its_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputFileRefused, match=said):
        ItemFile.read(tmp_path / name)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputFileRefused, match="is a directory"):
        ItemFile.read(tmp_path)


def test_json_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputFileRefused, match="is no JSON"):
        read_json(tmp_path / "a.json")
