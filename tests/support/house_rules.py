"""The house rules as functions: each takes the project's root and returns one line per violation.

They read source text and syntax trees and import nothing of the project, so that a test can plant a
violation in a scratch folder and see the rule find it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOMS = ("agent", "coordinator", "proto", "runtimes")
PRODUCT_LINES, TEST_LINES, FUNCTION_LINES = 350, 400, 60
NAMELESS = {"util", "utils", "helper", "helpers", "manager", "common", "misc"}
"""Module names that say nothing about what is inside."""

OPTIONAL_LIBRARIES = {
    "paho": ("connectors/mqtt", "coordinator/demo/"),
    "kafka": ("connectors/kafka",),
    "confluent_kafka": ("connectors/kafka",),
    "websockets": ("connectors/websocket",),
    "uvicorn": ("serving/server", "serving/protocol"),
    "uvloop": ("serving/server",),
    "httptools": ("serving/server",),
    "onnxruntime": ("frameworks/onnx_model",),
    "sklearn": ("frameworks/sklearn_model",),
    "joblib": ("frameworks/sklearn_model",),
    "tensorflow": ("frameworks/tensorflow_model",),
    "ai_edge_litert": ("frameworks/tflite_model",),
    "tflite_runtime": ("frameworks/tflite_model",),
    "numpy": ("frameworks/",),
    "docker": ("drivers/docker", "container/images"),
    "typer": ("coordinator/cli/",),
    "rich": ("coordinator/cli/", "coordinator/demo/"),
    "pydantic": ("coordinator/padl/",),
    "yaml": ("coordinator/padl/",),
    "sqlalchemy": ("coordinator/store/",),
    "amqtt": ("coordinator/cli/", "coordinator/demo/"),
    "psutil": ("coordinator/cli/", "coordinator/demo/"),
}
"""Library that an extra brings -> the files (beginning of their path inside a room) that may import it."""

DOCUMENTED = (
    "proto/fogline/wire/*.py",
    "runtimes/fogline/runtimes/spec.py",
    "runtimes/fogline/runtimes/options.py",
    "runtimes/fogline/runtimes/plugins.py",
    "runtimes/fogline/runtimes/connectors/base.py",
    "runtimes/fogline/runtimes/frameworks/base.py",
)
"""Files whose public names somebody in another room implements or calls."""

UNFINISHED = re.compile("|".join(rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "X" * 3)))
PROGRAM = re.compile(r'^if __name__ == "__main__":$', re.MULTILINE)
TEXT_FILES = {".py", ".md", ".proto", ".toml", ".json", ".sh", ".yml", ".yaml"}


def long_files(root: Path) -> list[str]:
    """Product files above 350 lines, test files above 400."""
    limits = [(path, PRODUCT_LINES) for path in _product(root)] + [(path, TEST_LINES) for path in _tests(root)]
    sizes = ((path, len(path.read_text().splitlines()), limit) for path, limit in limits)
    return [f"{_name(path, root)}: {lines} lines, at most {limit}" for path, lines, limit in sizes if lines > limit]


def long_functions(root: Path) -> list[str]:
    """Functions above 60 lines, docstring included."""
    return [
        f"{place}: `{node.name}` has {lines} lines, at most {FUNCTION_LINES}"
        for place, node in _nodes(root, [*_product(root), *_tests(root)])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]


def nameless_modules(root: Path) -> list[str]:
    """Modules and packages whose name could hold anything."""
    python = [*_product(root), *_tests(root)]
    named = {part for path in python for part in (path, *path.parents) if root in part.parents}
    return [f"{_name(path, root)}: name it after what it does" for path in sorted(named) if path.stem in NAMELESS]


def closed_namespaces(root: Path) -> list[str]:
    """An `__init__.py` directly under `fogline/` would hide every other room."""
    stray = sorted(root.glob("*/fogline/__init__.py"))
    return [f"{_name(path, root)}: hides the other rooms of the namespace; delete it" for path in stray]


def untyped_rooms(root: Path) -> list[str]:
    """Packages of the namespace whose types nobody outside can see."""
    packages = sorted(path.parent for path in root.glob("*/fogline/*/__init__.py"))
    return [f"{_name(path, root)}: no py.typed" for path in packages if not (path / "py.typed").is_file()]


def busy_doors(root: Path) -> list[str]:
    """Package `__init__` files hold a docstring and nothing else, so that importing a package costs nothing."""
    doors = [path for path in _product(root) if path.name == "__init__.py"]
    return [
        f"{_name(path, root)}: holds more than a docstring"
        for path in doors
        if len(body := _tree(path.read_text()).body) > 1 or not _is_docstring(body)
    ]


def swallowed_errors(root: Path) -> list[str]:
    """`except:`, a handler that does nothing, and `suppress(Exception)`."""
    found = []
    for place, node in _nodes(root, [*_product(root), *_tests(root)]):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{place}: bare except")
        elif isinstance(node, ast.ExceptHandler) and all(_does_nothing(each) for each in node.body):
            found.append(f"{place}: an error is swallowed")
        elif isinstance(node, ast.Call) and _called(node) == "suppress" and _is_broad(node.args):
            found.append(f"{place}: every error is suppressed")
    return found


def lucky_sleeps(root: Path) -> list[str]:
    """Tests that sleep a fixed time instead of asking for a condition in a loop.

    A program that a test starts (it has a `__main__` part) may sleep: being slow can be its part.
    """
    found = []
    for path in _tests(root):
        text = path.read_text()
        if PROGRAM.search(text) and not path.name.startswith("test_"):
            continue
        tree = _tree(text)
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.While | ast.For | ast.AsyncFor)]
        asking = {id(node) for loop in loops for node in ast.walk(loop)}
        found += [
            f"{_name(path, root)}:{node.lineno}: a sleep outside a loop that waits for a condition"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _called(node) == "sleep" and id(node) not in asking
            if node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value != 0
        ]
    return found


def stray_libraries(root: Path) -> list[str]:
    """Optional libraries imported outside their own plugin file or folder."""
    found = []
    for path in _product(root):
        inside = "/".join(path.relative_to(root).parts[2:])
        for line, library in _imports(_tree(path.read_text())):
            allowed = OPTIONAL_LIBRARIES.get(library)
            if allowed is not None and not any(_begins(inside, home) for home in allowed):
                found.append(f"{_name(path, root)}:{line}: imports {library}, which belongs in {', '.join(allowed)}")
    return found


def unfinished_words(root: Path) -> list[str]:
    """Marks of work left undone."""
    folders = [root / name for name in (*ROOMS, "tests", "examples", ".ci")]
    files = [path for path in root.glob("*") if path.suffix in TEXT_FILES or path.name == "Makefile"]
    files += [path for folder in folders for path in folder.rglob("*") if path.suffix in TEXT_FILES]
    return [
        f"{_name(path, root)}:{number}: {match.group()}"
        for path in sorted(files)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (match := UNFINISHED.search(line))
    ]


def undocumented_names(root: Path) -> list[str]:
    """Public functions, classes and methods without a docstring, where other rooms look."""
    paths = sorted(path for pattern in DOCUMENTED for path in root.glob(pattern))
    return [
        f"{_name(path, root)}:{node.lineno}: `{node.name}` has no docstring"
        for path in paths
        for node in _public(_tree(path.read_text()))
        if ast.get_docstring(node) is None
    ]


def _public(tree: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def _walk(text: str) -> list[ast.AST]:
    return list(ast.walk(_tree(text)))


def _product(root: Path) -> list[Path]:
    found = [path for room in ROOMS for path in (root / room).rglob("*.py")]
    return sorted(path for path in found if "_pb2" not in path.name)


def _tests(root: Path) -> list[Path]:
    return sorted((root / "tests").rglob("*.py"))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _nodes(root: Path, paths: list[Path]) -> Iterator[tuple[str, ast.AST]]:
    for path in paths:
        name = _name(path, root)
        for node in _walk(path.read_text()):
            yield f"{name}:{getattr(node, 'lineno', 0)}", node


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def _begins(inside: str, home: str) -> bool:
    """`connectors/mqtt` is home to `.../connectors/mqtt.py` and `.../connectors/mqtt_packets.py`."""
    return f"/{home}" in f"/{inside}"


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_broad(names: list[ast.expr]) -> bool:
    return any(getattr(name, "id", "") in {"Exception", "BaseException"} for name in names)


def _is_docstring(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
