from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.errors import StageUnusable
from fogline.runtimes.frameworks.base import Failed
from fogline.runtimes.frameworks.python_code import PythonCode
from support.segments import code_stage, write_code


@pytest.fixture(autouse=True)
def imports_forgotten() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def loaded(folder: Path, source: str, name: str = "stage", **options: Any) -> PythonCode:
    framework = PythonCode(code_stage(name, write_code(folder, source), "in", "out", **options), folder)
    framework.load()
    return framework


def reason(folder: Path, source: str, **options: Any) -> str:
    with pytest.raises(StageUnusable) as caught:
        loaded(folder, source, **options)
    assert caught.value.stage == "stage"
    return caught.value.reason


def test_a_handler_gets_each_record(tmp_path: Path) -> None:
    stage = loaded(tmp_path, "def handler(data): return data + 1")
    assert stage.process([1, 2]) == [[2], [3]]


def test_none_filters_and_a_generator_makes_many(tmp_path: Path) -> None:
    stage = loaded(
        tmp_path,
        """
def many(data):
    for each in range(data):
        yield each

def handler(data):
    return many(data) if data else None
""",
    )
    assert stage.process([0, 2, 1]) == [[], [0, 1], [0]]


def test_a_list_is_one_record(tmp_path: Path) -> None:
    assert loaded(tmp_path, "def handler(data): return [data, data]").process([1]) == [[[1, 1]]]


def test_an_exception_fails_its_record_alone(tmp_path: Path) -> None:
    stage = loaded(tmp_path, "def handler(data): return 1 / data")
    first, second, third = stage.process([1, 0, 2])
    assert (first, third) == ([1.0], [0.5])
    assert isinstance(second, Failed)
    assert isinstance(second.error, ZeroDivisionError)


@pytest.mark.parametrize("source", ["import sys\ndef handler(data): sys.exit(3)", "def handler(data):\n yield 1/0"])
def test_leaving_and_a_failing_generator_fail_the_record_too(tmp_path: Path, source: str) -> None:
    assert isinstance(loaded(tmp_path, source).process([1])[0], Failed)


def test_handler_batch_is_preferred_and_keeps_the_three_meanings(tmp_path: Path) -> None:
    stage = loaded(
        tmp_path,
        """
def handler(data): raise AssertionError
def handler_batch(records):
    return [None if each == 0 else (x for x in range(each)) if each < 3 else each for each in records]
""",
    )
    assert stage.process([0, 2, 7]) == [[], [0, 1], [7]]


@pytest.mark.parametrize("body", ["return records[:1]", "return None", "raise ValueError"])
def test_a_batch_that_fails_fails_together(tmp_path: Path, body: str) -> None:
    stage = loaded(tmp_path, f"def handler(data): pass\ndef handler_batch(records): {body}")
    assert [type(each) for each in stage.process([1, 2])] == [Failed, Failed]


def test_a_class_is_made_once_with_its_arguments_and_keeps_state(tmp_path: Path) -> None:
    stage = loaded(
        tmp_path,
        """
class Sum:
    def __init__(self, start): self.total = start
    def __call__(self, data):
        self.total += data
        return self.total
""",
        function="Sum",
        args={"start": 10},
    )
    assert stage.process([1, 2]) == [[11], [13]]


def test_a_function_gets_its_arguments(tmp_path: Path) -> None:
    stage = loaded(tmp_path, "def scale(data, by): return data * by", function="scale", args={"by": 3})
    assert stage.process([2]) == [[6]]


def test_two_stages_with_the_same_file_name_and_siblings_live_together(tmp_path: Path) -> None:
    write_code(tmp_path / "a", "NAME = 'a'", "first_sibling.py")
    write_code(tmp_path / "b", "NAME = 'b'", "second_sibling.py")
    a = loaded(tmp_path / "a", "from first_sibling import NAME\ndef handler(data): return NAME", "a")
    b = loaded(tmp_path / "b", "def handler(data):\n from second_sibling import NAME\n return NAME", "b")
    assert (a.process([1]), b.process([1])) == ([["a"]], [["b"]])


def test_dataclasses_and_an_entry_point_in_a_subfolder_work(tmp_path: Path) -> None:
    write_code(tmp_path / "src", "VALUE = 5", "beside.py")
    write_code(
        tmp_path / "src",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport beside\n"
        "@dataclass\nclass P:\n x: int\ndef handler(data): return P(beside.VALUE).x",
    )
    framework = PythonCode(code_stage("s", tmp_path, "in", entrypoint="src/main.py"), tmp_path)
    framework.load()
    assert framework.process([1]) == [[5]]


def package(folder: Path, entrypoint: str, files: dict[str, str], name: str = "s") -> PythonCode:
    for path, source in files.items():
        write_code((folder / path).parent, source, Path(path).name)
    framework = PythonCode(code_stage(name, folder, "in", entrypoint=entrypoint), folder)
    framework.load()
    return framework


DETECTOR = {
    "detector/__init__.py": "from .model import LIMIT\ndef handler(data): return ['init', data > LIMIT]",
    "detector/model.py": "from .deep.table import LIMIT",
    "detector/deep/__init__.py": "",
    "detector/deep/table.py": "LIMIT = 3",
    "detector/deep/main.py": "from .table import LIMIT\nfrom ..model import LIMIT as SAME\n"
    "from detector.deep import table\ndef handler(data): return [LIMIT, SAME, table.LIMIT, __name__]",
}


def test_relative_imports_work_in_a_package_and_the_entry_point_has_a_name_of_its_own(tmp_path: Path) -> None:
    first = package(tmp_path, "detector/__init__.py", DETECTOR, "a")
    second = package(tmp_path, "detector/deep/main.py", DETECTOR, "b")
    third = package(tmp_path, "detector/deep/main.py", DETECTOR, "c")
    assert first.process([5]) == [[["init", True]]]
    assert second.process([5]) == [[[3, 3, 3, "detector.deep.fogline_stage_b"]]]
    assert third.process([5]) == [[[3, 3, 3, "detector.deep.fogline_stage_c"]]]


def test_a_package_may_lie_below_a_plain_folder(tmp_path: Path) -> None:
    files = {f"src/{name}": source for name, source in DETECTOR.items()}
    assert package(tmp_path, "src/detector/deep/main.py", files).process([1])[0] == [
        [3, 3, 3, "detector.deep.fogline_stage_s"]
    ]


def package_reason(folder: Path, entrypoint: str, files: dict[str, str]) -> str:
    with pytest.raises(StageUnusable) as caught:
        package(folder, entrypoint, files)
    return caught.value.reason


def test_imports_inside_the_folder_that_fail_are_told(tmp_path: Path) -> None:
    init = {"one/__init__.py": ""}
    assert package_reason(tmp_path / "1", "one/main.py", init | {"one/main.py": "from .absent import x"}) == (
        "one/main.py:1 failed at import: ModuleNotFoundError: No module named 'one.absent'"
    )
    assert package_reason(tmp_path / "2", "two/__init__.py", {"two/__init__.py": "from .absent import x"}) == (
        "two/__init__.py:1 failed at import: ModuleNotFoundError: No module named '.absent'"
    )
    assert package_reason(tmp_path / "3", "main.py", {"main.py": "from .absent import x"}).endswith(
        "no known parent package; import it by its plain name, or put both files into a folder with an __init__.py"
    )
    broken = {"four/__init__.py": "raise ValueError('broken')", "four/main.py": ""}
    assert package_reason(tmp_path / "4", "four/main.py", broken) == (
        "four/__init__.py:1 failed at import: ValueError: broken"
    )
    taken = package_reason(tmp_path / "5", "json/main.py", {"json/__init__.py": "", "json/main.py": ""})
    assert taken.startswith("its package json has the name of another, ")
    assert taken.endswith("json/__init__.py: rename the folder")
    assert package_reason(tmp_path / "6", "main.py", {"main.py": "import not_there.inner"}).endswith(
        "; add not_there to requirements.txt"
    )


def test_leaving_and_falling_without_end_at_import_are_told_at_the_users_line(tmp_path: Path) -> None:
    assert reason(tmp_path / "1", "import sys\nsys.exit(3)") == "main.py:2 failed at import: SystemExit: 3"
    assert reason(tmp_path / "2", "import sys\nsys.exit()") == "main.py:2 failed at import: SystemExit"
    deep = reason(tmp_path / "3", "def down(n):\n    return down(n + 1)\ndown(0)")
    assert deep.startswith("main.py:2 failed at import: RecursionError: maximum recursion depth exceeded")
    below = tmp_path / "4"
    write_code(below, "\n\n{}['x']", "beside_that_fails.py")
    assert reason(below, "import beside_that_fails") == "beside_that_fails.py:3 failed at import: KeyError: 'x'"


def test_a_class_may_filter_and_make_many_and_is_never_made_again(tmp_path: Path) -> None:
    stage = loaded(
        tmp_path,
        """
MADE = []
class Every:
    def __init__(self, nth=2): self.nth, self.seen = nth, 0; MADE.append(self)
    def __call__(self, data):
        self.seen += 1
        if self.seen % self.nth == 0:
            yield [self.seen, len(MADE)]
            yield None
            yield data
""",
        function="Every",
    )
    assert stage.process([7, 8]) + stage.process([9, 10]) == [[], [[2, 1], 8], [], [[4, 1], 10]]


def test_handler_batch_gets_the_arguments_too_and_a_failing_place_fails_alone(tmp_path: Path) -> None:
    stage = loaded(
        tmp_path,
        """
def handler(data, by): raise AssertionError
def handler_batch(records, by):
    def failing(): yield 1 / 0
    return tuple(failing() if each == 0 else each * by for each in records)
""",
        args={"by": 3},
    )
    first, second, third = stage.process([1, 0, 2])
    assert (first, third) == ([3], [6])
    assert isinstance(second, Failed)
    assert isinstance(second.error, ZeroDivisionError)


def test_what_cannot_be_loaded_is_told_in_one_sentence(tmp_path: Path) -> None:
    assert reason(tmp_path / "1", "def other(data): pass") == "main.py has no function 'handler'; it has other"
    assert reason(tmp_path / "2", "x = 1\nraise ValueError('broken')") == (
        "main.py:2 failed at import: ValueError: broken"
    )
    assert reason(tmp_path / "3", "def handler(data)\n  pass").startswith("main.py:1 failed at import: SyntaxError")
    assert reason(tmp_path / "4", "import not_there") == (
        "main.py:1 failed at import: ModuleNotFoundError: No module named 'not_there'; "
        "add not_there to requirements.txt"
    )
    assert "plain def" in reason(tmp_path / "5", "async def handler(data): pass")
    assert "plain def" in reason(tmp_path / "6", "async def handler(data): yield 1")
    assert "cannot be called" in reason(tmp_path / "7", "handler = 1")
    assert "does not take (data)" in reason(tmp_path / "8", "def handler(): pass")
    assert "does not take (data, by=)" in reason(tmp_path / "9", "def handler(data): pass", args={"by": 1})
    assert "is not in the code folder; it holds main.py" in reason(tmp_path / "10", "", entrypoint="app.py")
    assert "Sum cannot be made: KeyError" in reason(
        tmp_path / "11", "class Sum:\n def __init__(self): {}['x']\n def __call__(self, d): pass", function="Sum"
    )
    assert "a class needs __call__" in reason(tmp_path / "12", "class Sum: pass", function="Sum")


def test_an_import_error_carries_the_users_frames_and_not_ours(tmp_path: Path) -> None:
    with pytest.raises(StageUnusable) as caught:
        loaded(tmp_path, "def deep():\n    raise ValueError('broken')\ndeep()")
    assert "line 3, in <module>" in caught.value.trace
    assert "line 2, in deep" in caught.value.trace
    assert "python_code.py" not in caught.value.trace
    assert "importlib" not in caught.value.trace
