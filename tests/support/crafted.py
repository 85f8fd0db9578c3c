"""Documents gone wrong: seeded mutations of sound ones, as files and command lines for `coord validate`."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

WORDS = ["", "raw", "mqtt", "kafka", "onnx", "code", "always", "../..", "a/b", "~", "\u0000", "x" * 300, "💥", "\ud800"]
VALUES: list[Any] = [None, True, 0, -1, 2**63, 10**40, 1e308, 0.1, [], {}, [[]], {"": ""}, {"secret": "x"}, *WORDS]
BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(12))
SETTINGS = [
    "nonsense", "=1", "a..b=1", "queues.nowhere.props.port=1", "pipelin.x.type=code", "queues=null", "pipeline=3",
    "version=2.0", "id=", "id=my plant", "queues={}", "infra.m1=7", "pipeline={\"a\": {}}", "a" * 5000 + "=1",
    "queues.q1.props.port=NaN", "queues.q1.props.port=" + "9" * 400, "id=\u0000", ".".join("abcdefgh" * 12) + "=1",
]  # fmt: skip
OVERLAYS: list[Any] = [
    {"pipeline": None}, {"queues": None}, {"pipeline": []}, {"version": None, "id": 5}, [], None, "text", 7,
    {"pipeline": {"new": {}}}, {"pipeline": {"new": {"type": "code"}}}, {"queues": {"new": {"connector": "mqqt"}}},
    {"infra": {"m1": {"sshConfig": {"pass": 5}}}}, {"pipeline": {"preparation": {"model": "x.onnx", "type": "model"}}},
]  # fmt: skip


@dataclass(frozen=True)
class Crafted:
    """One command line: the arguments of `coord validate`."""

    name: str
    arguments: list[str]


def crafted(folder: Path, base: Path, count: int, seed: str) -> Iterator[Crafted]:
    """At least `count` documents made from `base`, the same ones for the same seed."""
    chance = random.Random(seed)
    text = base.read_text()
    is_json = base.suffix == ".json"
    sound = json.loads(text) if is_json else yaml.safe_load(text)
    for number in range(count):
        kind = number % 3
        name = f"{base.stem}-{number}"
        if kind == 2:
            file = folder / f"{name}{base.suffix}"
            file.write_bytes(TEXTS[number // 3 % len(TEXTS)](text, chance))
        else:
            raw = copy.deepcopy(sound)
            for _ in range(chance.randint(1, 3)):
                MUTATIONS[number // 3 % len(MUTATIONS)](raw, chance)
            as_json = kind == 0
            file = folder / f"{name}{'.json' if as_json else '.yaml'}"
            file.write_text(json.dumps(raw, indent=1) if as_json else yaml.safe_dump(raw, sort_keys=False))
        yield Crafted(name, [str(file)])
    for number, setting in enumerate(SETTINGS):
        yield Crafted(f"{base.stem}-set-{number}", [str(base), "--set", setting])
    for number, over in enumerate(OVERLAYS):
        file = folder / f"{base.stem}-over-{number}.json"
        file.write_text(json.dumps(over))
        yield Crafted(file.stem, [str(base), str(file)])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in members:
        yield (*path, key)
        yield from _places(each, (*path, key))


def _somewhere(raw: Any, chance: random.Random) -> tuple[Any, Any]:
    """Holder and key of a random place; of a new key when nothing is left."""
    places = list(_places(raw))
    if not places:
        return raw, "empty"
    *path, last = chance.choice(places)
    for key in path:
        raw = raw[key]
    return raw, last


def _delete(raw: Any, chance: random.Random) -> None:
    holder, key = _somewhere(raw, chance)
    if key in holder or isinstance(holder, list):
        del holder[key]


def _rename(raw: Any, chance: random.Random) -> None:
    holder, key = _somewhere(raw, chance)
    if isinstance(holder, dict) and key in holder:
        wrong = key[:-1] if chance.random() < 0.5 else key + chance.choice("sx_")
        holder[wrong] = holder.pop(key)


def _retype(raw: Any, chance: random.Random) -> None:
    holder, key = _somewhere(raw, chance)
    holder[key] = copy.deepcopy(chance.choice(VALUES[:-1]))


def _nest(raw: Any, chance: random.Random) -> None:
    holder, key = _somewhere(raw, chance)
    value: Any = "deep"
    for _ in range(chance.choice([3, 70, 80])):
        value = [value] if chance.random() < 0.5 else {"a": value}
    holder[key] = value


def _circle(raw: Any, chance: random.Random) -> None:
    stages = raw.get("pipeline")
    names = [name for name in stages if isinstance(stages[name], dict)] if isinstance(stages, dict) else []
    if names:
        first, second = chance.choice(names), chance.choice(names)
        stages[first]["queues"] = {"input": second, "output": [second, first]}


def _swap(raw: Any, chance: random.Random) -> None:
    one, key = _somewhere(raw, chance)
    other, place = _somewhere(raw, chance)
    if key in one or isinstance(one, list):
        other[place] = copy.deepcopy(one[key])


MUTATIONS: list[Callable[[Any, random.Random], None]] = [_delete, _rename, _retype, _nest, _circle, _swap]


def _at(text: str, chance: random.Random, what: str | bytes) -> bytes:
    data = text.encode()
    place = chance.randrange(len(data))
    return data[:place] + (what.encode() if isinstance(what, str) else what) + data[place:]


def _line_twice(text: str, chance: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    number = chance.randrange(len(lines))
    return "".join([*lines[: number + 1], *lines[number:]]).encode()


TEXTS: list[Callable[[str, random.Random], bytes]] = [
    lambda text, chance: text.encode()[: chance.randrange(len(text))],
    lambda text, chance: _at(text, chance, chance.choice([b"\xff", b"\xc3", b"\x00", b"\xed\xa0\x80"])),
    _line_twice,
    lambda text, chance: _at(text, chance, chance.choice([*"{}[],:\"'&*!|>%@`\t", "NaN", "1e999", "\ufeff"])),
    lambda text, chance: text.replace("1883", "9" * chance.choice([6, 40, 6000])).replace('"', "", 1).encode(),
    lambda text, chance: (
        text + chance.choice([BOMB, "\n---\na: 1", "\nx: !!python/name:os.system", "\nx: *no"])
    ).encode(),
    lambda text, chance: text.encode("utf-16"),
    lambda text, chance: ("[" * chance.choice([50, 5000]) + text).encode(),
    lambda text, chance: b"",
    lambda text, chance: text.replace("mqtt", chance.choice(["mqqt", "", "!!int x", "*a", "&a"])).encode(),
]
