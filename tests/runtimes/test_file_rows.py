"""Files as records: what a cell means, what is no row, and that nothing hides what comes after it."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest

from fogline.runtimes.codecs import PAYLOAD_LIMIT_BYTES, codec
from fogline.runtimes.connectors.file_rows import BadHeader, Lines, Row, rows
from fogline.runtimes.errors import BadMessage


def read(text: str | bytes, format_: str = "csv", delimiter: str = ",") -> list[Row]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(rows(Lines(io.BytesIO(data)), format_, delimiter))


def records(text: str | bytes, format_: str = "csv", delimiter: str = ",") -> list[Any]:
    """Decoded as the pump does; what is no record is the reason."""
    found = list[Any]()
    for row in read(text, format_, delimiter):
        try:
            found.append(codec(format_)[0](row.payload))
        except BadMessage as error:
            found.append(error)
    return found


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1", 1),
        ("-0", 0),
        ("1.50", 1.5),
        ("-2e3", -2000.0),
        ("", None),
        ("abc", "abc"),
        (" 1", " 1"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("-inf", "-inf"),
        ("1e999", "1e999"),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", "18446744073709551616"),
        ("9" * 5000, "9" * 5000),
        ("٣", "٣"),
        ('"a,b"', "a,b"),
        ('"say ""hi"""', 'say "hi"'),
        ('"two\nlines"', "two\nlines"),
        ('5" pipe', '5" pipe'),
        ("true", "true"),
    ],
)
def test_a_cell_is_a_number_where_json_has_one(cell: str, value: Any) -> None:
    (record,) = records(f"a,b\n{cell},x\n")
    assert record == {"a": value, "b": "x"}
    assert type(record["a"]) is type(value)


def test_rows_know_their_lines_and_where_they_end() -> None:
    text = 'a,b\n1,2\n\n"x\ny",3\r\n4,5'
    found = read(text)
    assert [(row.line, row.lines) for row in found] == [(2, 2), (4, 5), (6, 6)]
    assert [text.encode()[: row.end][-4:] for row in found] == [b"1,2\n", b",3\r\n", b"\n4,5"]


def test_reading_goes_on_from_any_row() -> None:
    text = b'a,b\n1,2\n"x\ny",3\n4,5\n'
    whole = read(text)
    for place, row in enumerate(whole):
        rest = list(rows(Lines(io.BytesIO(text)), "csv", ",", row.end, row.lines))
        assert rest == whole[place + 1 :]


@pytest.mark.parametrize(
    "line", ["1", "1,2,3", '"open,2', '"a"b,2', "null", '{"a": 1}', "[1]", b"\xff,2"], ids=lambda each: repr(each)
)
def test_a_line_that_is_no_row_is_one_bad_message_and_the_next_is_read(line: str | bytes) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    first, bad, last = records(b"a,b\n1,2\n" + data + b"\n3,4\n")
    assert (first, last) == ({"a": 1, "b": 2}, {"a": 3, "b": 4})
    assert isinstance(bad, BadMessage)
    assert "not a row that fits the header" in bad.reason


def test_a_quote_that_is_never_closed_costs_its_line_however_long_the_rest() -> None:
    rest = "".join(f"{n},{n}\n" for n in range(2 * PAYLOAD_LIMIT_BYTES // 10))
    found = records(f'a,b\n"open,2\n{rest}')
    assert isinstance(found[0], BadMessage)
    assert found[1:] == [{"a": int(line.split(",")[0])} | {"b": int(line.split(",")[1])} for line in rest.split()]


@pytest.mark.parametrize("format_", ["csv", "json", "text"])
def test_a_line_beyond_the_limit_is_bad_and_not_kept_in_memory(format_: str) -> None:
    header = b"a\n" if format_ == "csv" else b""
    payloads = read(header + b"x" * (3 * PAYLOAD_LIMIT_BYTES) + b"\n1\n", format_)
    assert len(payloads[0].payload) < PAYLOAD_LIMIT_BYTES + 10
    bad, good = records(header + b"x" * (3 * PAYLOAD_LIMIT_BYTES) + b"\n1\n", format_)
    assert isinstance(bad, BadMessage)
    assert "limit" in bad.reason
    assert good in ({"a": 1}, 1, "1")


def test_json_lines_pass_as_they_are() -> None:
    found = read('{"a": 1}\n\nnot json\r\n[1]', "json")
    assert [(row.payload, row.line) for row in found] == [(b'{"a": 1}', 1), (b"not json", 3), (b"[1]", 4)]


def test_text_keeps_blank_lines() -> None:
    assert records("one\n\n two \r\n", "text") == ["one", "", " two "]


def test_a_mark_in_front_of_utf_8_is_no_part_of_the_first_name() -> None:
    assert records(b"\xef\xbb\xbfa;b\n1;2\n", delimiter=";") == [{"a": 1, "b": 2}]
    assert records(b"\xef\xbb\xbf1\n", "json") == [1]


def test_an_empty_file_and_a_lonely_header_hold_nothing() -> None:
    assert read("") == read("a,b\n") == read("\n\n") == []


@pytest.mark.parametrize(
    ("header", "words"), [(b"a,b,a\n", "'a' twice"), (b'"a\n', "cannot be read"), (b"\xff\n", "cannot be read")]
)
def test_a_header_that_is_none_is_said(header: bytes, words: str) -> None:
    with pytest.raises(BadHeader, match=words):
        read(header + b"1,2,3\n")


def test_what_is_read_is_what_a_csv_reader_reads() -> None:
    text = 'n,name\n1,"a ""quoted"" one"\n2,"with, comma"\n3,plain\n'
    assert [orjson.loads(row.payload)["name"] for row in read(text)] == ['a "quoted" one', "with, comma", "plain"]
