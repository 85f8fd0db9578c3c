"""Values that a document only names, read from the node's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.secrets import resolved
from fogline.runtimes.spec import SECRETS_VARIABLE, EndpointSpec, SegmentSpec, SpecError, StageSpec


def spec(password: Any) -> SegmentSpec:
    ends = [EndpointSpec(queue, "s", "mqtt", {"server": "b", "password": password}, "id") for queue in ("in", "out")]
    return SegmentSpec("p", "s", "0", "a", "c", (StageSpec("s", "code", ("in",), ("out",)),), (ends[0],), (ends[1],))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path))
    return tmp_path


def put(folder: Path, text: str, mode: int = 0o600) -> None:
    (folder / "mqtt").write_text(text)
    (folder / "mqtt").chmod(mode)


def test_both_ends_get_the_value_and_nothing_else_changes(folder: Path) -> None:
    put(folder, "s3cret \u2603\n")
    found = resolved(spec({"secret": "mqtt"}))
    assert [end.options for end in (*found.sources, *found.sinks)] == [{"server": "b", "password": "s3cret \u2603"}] * 2
    plain = spec("as it is")
    assert resolved(plain) == plain


def test_a_missing_one_is_told_with_its_place(folder: Path) -> None:
    with pytest.raises(SpecError, match=f"the secret 'mqtt' is not on this node: write it to {folder}/mqtt, with mode"):
        resolved(spec({"secret": "mqtt"}))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_one_that_others_can_read_or_write_is_refused(folder: Path, mode: int) -> None:
    put(folder, "open", mode)
    with pytest.raises(SpecError, match="is open to others: chmod 600"):
        resolved(spec({"secret": "mqtt"}))


@pytest.mark.parametrize("name", ["../mqtt", "", ".", "a/b"])
def test_a_name_cannot_lead_out_of_the_folder(folder: Path, name: Any) -> None:
    with pytest.raises(SpecError, match="cannot be looked up"):
        resolved(spec({"secret": name}))


def test_without_a_folder_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRETS_VARIABLE, raising=False)
    with pytest.raises(SpecError, match="no folder in FOGLINE_SECRETS"):
        resolved(spec({"secret": "mqtt"}))


def test_bytes_that_are_no_text_are_told(folder: Path) -> None:
    (folder / "mqtt").write_bytes(b"\xff\xfe")
    (folder / "mqtt").chmod(0o600)
    with pytest.raises(SpecError, match="cannot be read: not UTF-8"):
        resolved(spec({"secret": "mqtt"}))
