"""Files become trees with places, or one clear problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.padl.source import merged, read_source
from fogline.coordinator.padl.tree import Node, find, plain
from support.padl_files import written

DEEP = 70


def read(path: Path) -> Node:
    root, problems = read_source(path)
    assert problems == []
    assert root is not None
    return root


def lines(root: Node, *pointers: str) -> list[int]:
    return [find(root, pointer).line for pointer in pointers]


def test_json_values_know_the_line_of_their_key(tmp_path: Path) -> None:
    text = '{"a": 1,\n\t"b":\n {"c": [1,\n 2], "d/e": "\\ud83d\\ude00\\/"},\r\n "": null}'
    root = read(written(tmp_path, text))
    assert plain(root) == json.loads(text)
    assert lines(root, "", "/a", "/b", "/b/c", "/b/c/0", "/b/c/1", "/b/d~1e", "/") == [1, 1, 2, 3, 3, 4, 4, 5]


def test_yaml_values_know_the_line_of_their_key(tmp_path: Path) -> None:
    text = "# plant\na: 1\nb:\n  c:\n    - 1\n    - x: y\n  d: {e: 2}\n"
    root = read(written(tmp_path, text, "plant.yaml"))
    assert plain(root) == {"a": 1, "b": {"c": [1, {"x": "y"}], "d": {"e": 2}}}
    assert lines(root, "/a", "/b", "/b/c", "/b/c/0", "/b/c/1/x", "/b/d/e") == [2, 3, 4, 5, 6, 7]


def test_an_absent_place_is_that_of_its_nearest_ancestor(tmp_path: Path) -> None:
    root = read(written(tmp_path, '{"a":\n {"b":\n [1]}}'))
    assert lines(root, "/x", "/a/x/y", "/a/b/7", "/a/b/-", "/a/b/0/z") == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("22:22", "22:22"),
        ("007", "007"),
        ("1.5e3", 1500.0),
        ("-12", -12),
        ("0x10", "0x10"),
        ("2020-01-01", "2020-01-01"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        (".nan", ".nan"),
    ],
)
def test_plain_yaml_words_have_the_types_of_json(tmp_path: Path, text: str, value: Any) -> None:
    root = plain(read(written(tmp_path, f"key: {text}\n", "plant.yml")))
    assert root == {"key": value}
    assert type(root["key"]) is type(value)


def test_yaml_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = "base: &b {x: 1, y: 2}\nalso: *b\nmore: {<<: *b, y: 3}\nboth: {<<: [{x: 9}, *b], 7: z}\n"
    root = read(written(tmp_path, text, "plant.yaml"))
    assert plain(root) == {
        "base": {"x": 1, "y": 2},
        "also": {"x": 1, "y": 2},
        "more": {"x": 1, "y": 3},
        "both": {"x": 9, "y": 2, "7": "z"},
    }
    assert lines(root, "/also", "/also/x") == [2, 1]


BAD_TEXT: list[tuple[str, str | bytes, int, str]] = [
    ("a.json", "", 0, "empty"),
    ("a.yaml", " \n\n", 0, "empty"),
    ("a.json", "[1]", 1, "top level is not an object"),
    ("a.json", "\nnull", 2, "top level is not an object"),
    ("a.yaml", "just words", 1, "top level is not an object"),
    ("a.yaml", "# only a remark", 1, "top level is not an object"),
    ("a.json", "hello", 1, "column 1: expecting value"),
    ("a.json", '{"a": 1,\n "b" 2}', 2, "column 6: expected ':'"),
    ("a.json", '{"a": 1\n "b": 2}', 2, "column 2: expected ',' or '}'"),
    ("a.json", '{"a": [1,\n2,]}', 2, "column 2: a comma before ']'"),
    ("a.json", '{"a": 1,}', 1, "a comma before '}'"),
    ("a.json", '{"a": "x', 1, "unterminated string"),
    ("a.json", '{"a": "x\ty"}', 1, "invalid control character"),
    ("a.json", "{'a': 1}", 1, "a key in double quotes"),
    ("a.json", '{"a": 1} x', 1, "column 10: text after the end"),
    ("a.json", '{"a": NaN}', 1, "NaN is not JSON"),
    ("a.json", '{"a": -Infinity}', 1, "-Infinity is not JSON"),
    ("a.json", '{"a": 1e999}', 1, "too large"),
    ("a.json", '{"a": ' + "9" * 30 + "}", 1, "64 bits"),
    ("a.json", '{"a": ' + "9" * 5000 + "}", 1, "column 7"),
    ("a.json", '{"a": "\\ud800"}', 1, "surrogate"),
    ("a.json", '{"a\\u0000": 1}', 1, "NUL"),
    ("a.json", '{"a": 01}', 1, "expected ','"),
    ("a.json", '{"a":' + "[" * DEEP + "]" * DEEP + "}", 1, "nested deeper than 64"),
    ("a.json", '{"a":\n' + "[" * 100_000, 2, "nested deeper than 64"),
    ("a.yaml", "a: " + "[" * DEEP + "]" * DEEP, 1, "nested deeper than 64"),
    ("a.yaml", "a: &x [*x]", 1, "nested deeper than 64"),
    ("a.yaml", "a: &x\n  <<: *x", 1, "nested deeper than 64"),
    ("a.yaml", "a:\n\t- 1", 2, "column 1"),
    ("a.yaml", "a: *nowhere", 1, "undefined alias"),
    ("a.yaml", "a: 1\n---\nb: 2", 2, "not valid YAML"),
    ("a.yaml", "a: !!python/object/apply:os.system [ls]", 1, "!!python/object/apply:os.system"),
    ("a.yaml", "a: !thing x", 1, "'!thing' is not accepted"),
    ("a.yaml", "a: !!int x", 1, "not of the type !!int"),
    ("a.yaml", "a: !!set {x}", 1, "!!set"),
    ("a.yaml", "? [a]\n: 1", 1, "a key is a plain word"),
    ("a.yaml", "a:\n  <<: 3", 2, "merges mappings only"),
    ("a.yaml", 'a: "\\U7FFFFFFF"', 0, "not allowed"),
    ("a.yaml", "a: 1\nb: \x07", 2, "not allowed"),
    ("a.yaml", 'a: "\\ud800"', 1, "surrogate"),
    ("a.json", b'{"a": 1,\n "b": "\xff"}', 2, "not UTF-8"),
    ("a.json", b'{"a": "' + b"x" * 1024 * 1024 + b'"}', 0, "larger than 1024 KiB"),
    ("a.txt", '{"a": 1,}', 1, "not valid JSON"),
    ("a.txt", "a: [", 1, "not valid YAML"),
]


@pytest.mark.parametrize(("name", "text", "line", "fragment"), BAD_TEXT, ids=range(len(BAD_TEXT)))
def test_bad_text_is_one_problem(tmp_path: Path, name: str, text: str | bytes, line: int, fragment: str) -> None:
    path = written(tmp_path, text, name)
    root, problems = read_source(path)
    assert root is None
    assert [(each.severity, each.pointer, each.file, each.line) for each in problems] == [
        ("error", "", str(path), line)
    ]
    assert fragment in problems[0].message


def test_aliases_cannot_blow_up_memory(tmp_path: Path) -> None:
    text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 30)
    )
    _, problems = read_source(written(tmp_path, text, "bomb.yaml"))
    assert "aliases expand" in problems[0].message


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_every_duplicate_key_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    root, problems = read_source(written(tmp_path, '{"a": {"b": 1,\n "b": 2},\n "c": 3,\n\n "c": 4}', name))
    assert root is not None
    assert sorted((each.pointer, each.line) for each in problems) == [("/a/b", 2), ("/c", 5)]
    assert all("is given twice, first on line" in each.message for each in problems)


def test_files_that_are_none(tmp_path: Path) -> None:
    cases = [(tmp_path / "absent.json", "no such file"), (tmp_path, "a folder"), (Path("a\0b"), "cannot be read")]
    for path, fragment in cases:
        root, problems = read_source(path)
        assert root is None
        assert fragment in problems[0].message
        assert problems[0].file == str(path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert plain(read(written(tmp_path, b'\xef\xbb\xbf{"a": 1}'))) == {"a": 1}


PATCHES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


def as_node(value: Any, file: str) -> Node:
    if isinstance(value, dict):
        return Node({key: as_node(each, file) for key, each in value.items()}, file, 1)
    if isinstance(value, list):
        return Node([as_node(each, file) for each in value], file, 1)
    return Node(value, file, 1)


@pytest.mark.parametrize(("target", "patch", "result"), PATCHES)
def test_layers_merge_as_rfc_7396_says(target: Any, patch: Any, result: Any) -> None:
    assert plain(merged([as_node(target, "base"), as_node(patch, "over")])) == result


def test_each_value_keeps_the_file_that_set_it() -> None:
    base = as_node({"a": {"b": 1, "c": 2}, "d": 3}, "base")
    root = merged([base, as_node({"a": {"c": 4}, "d": {"e": 5}}, "over")])
    files = {pointer: find(root, pointer).file for pointer in ("", "/a", "/a/b", "/a/c", "/d", "/d/e")}
    assert files == {"": "base", "/a": "base", "/a/b": "base", "/a/c": "over", "/d": "over", "/d/e": "over"}
