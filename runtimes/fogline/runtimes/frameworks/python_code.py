"""Code stages: a function or a class in a file of the user's folder."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any

from fogline.runtimes import options
from fogline.runtimes.errors import BadMessage, StageUnusable
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.traces import sentence, user_place, user_trace

RESULTS_LIMIT = 65536
"""Records that may follow from one: a generator without an end must not fill the memory."""


class PythonCode(Framework):
    """`handler(data)` per record; `handler_batch(list)` instead, where the module offers it."""

    def load(self) -> None:
        given = options.defaults(options.FRAMEWORKS["code"], self.stage.options)
        folder, entrypoint, name = self.path, given["entrypoint"], given["function"]
        file = folder / entrypoint
        if not file.is_file():
            raise self.unusable(f"{entrypoint} is not in the code folder; it holds {_names(folder)}")
        module = self._import(folder, file)
        arguments = dict(given.get("args") or {})
        self._function = self._callable(module, name, arguments)
        batch = getattr(module, f"{name}_batch", None)
        self._batch: Callable[..., Any] | None = None
        if batch is not None:
            self._batch = self._checked(batch, f"{entrypoint}: {name}_batch", arguments)

    def process(self, records: list[Any]) -> list[Result]:
        if self._batch is not None:
            return self._process_batch(self._batch, records)
        results, progress, now = list[Result](), self.progress, time.monotonic
        for record in records:
            progress.ticked_at = now()
            results.append(self._process_one(record))
        return results

    def _process_one(self, record: Any) -> Result:
        try:
            return _records(self._function(record))
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            return Failed(error)

    def _process_batch(self, batch: Callable[..., Any], records: list[Any]) -> list[Result]:
        count = len(records)
        try:
            values = batch(records)
            if not isinstance(values, list | tuple) or len(values) != count:
                raise TypeError(f"it must return a list of {count} results, one per record")
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            return [Failed(error)] * count
        return [self._result(value) for value in values]

    def _result(self, value: Any) -> Result:
        try:
            return _records(value)
        except BaseException as error:  # noqa: BLE001 - a generator runs user code
            return Failed(error)

    def _import(self, folder: Path, file: Path) -> ModuleType:
        """Load the entry point under a name of its own, so that two stages may both have a main.py.

        Where it lies in a package it is a module of that package all the same: its relative imports lead to its
        neighbours.
        """
        package, top = _package_of(file, folder)
        for place in map(str, (file.parent, top, folder)):
            if place not in sys.path:
                sys.path.insert(0, place)
        name = ".".join((*package, f"fogline_stage_{self.stage.name.replace('-', '_')}"))
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise self.unusable(f"{file.name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            if package:
                self._check_own(importlib.import_module(".".join(package)), top)
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            if isinstance(error, StageUnusable):
                raise
            place = user_place(error, folder) or file.name
            words = sentence(error).replace(f"{name}.", ".") + _hint(error, name)
            raise self.unusable(f"{place} failed at import: {words}", user_trace(error)) from error
        return module

    def _check_own(self, package: ModuleType, top: Path) -> None:
        """That a name which is taken by the package of an entry point leads into the code folder."""
        if not str(package.__file__).startswith(str(top)):
            reason = f"its package {package.__name__} has the name of another, {package.__file__}: rename the folder"
            raise self.unusable(reason)

    def _callable(self, module: ModuleType, name: str, arguments: dict[str, Any]) -> Callable[..., Any]:
        file = Path(str(module.__file__)).name
        found = getattr(module, name, None)
        if found is None:
            own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise self.unusable(f"{file} has no function {name!r}; it has {', '.join(own) or 'none'}")
        if not inspect.isclass(found):
            return self._checked(found, f"{file}: {name}", arguments)
        try:
            instance = found(**arguments)
        except (Exception, SystemExit) as error:
            raise self.unusable(f"{file}: {name} cannot be made: {sentence(error)}", user_trace(error)) from error
        return self._checked(instance, f"{file}: {name}", {})

    def _checked(self, found: Any, place: str, arguments: dict[str, Any]) -> Callable[..., Any]:
        if not callable(found):
            raise self.unusable(f"{place} cannot be called; a class needs __call__(self, data)")
        body = found if inspect.isroutine(found) else type(found).__call__
        if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
            raise self.unusable(f"{place} is async; a stage's function is called directly: write it with plain def")
        try:
            inspect.signature(found).bind(None, **arguments)
        except TypeError as error:
            raise self.unusable(f"{place} does not take (data{_keywords(arguments)}): {error}") from error
        except ValueError:
            return partial(found, **arguments)  # a builtin without a signature
        return partial(found, **arguments) if arguments else found


def _package_of(file: Path, folder: Path) -> tuple[list[str], Path]:
    """Names of the packages around an entry point, outermost first, and the folder that the first lies in."""
    names, here = list[str](), file.parent
    if file.name == "__init__.py":
        here = here.parent  # it is its own package, under its own name
    while here != folder and folder in here.parents and (here / "__init__.py").is_file():
        names.insert(0, here.name)
        here = here.parent
    return names, here


def _hint(error: BaseException, name: str) -> str:
    """What to do about an import that failed in the module `name`; empty where nobody can tell."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        wanted = error.name.partition(".")[0]
        return "" if wanted == name.partition(".")[0] else f"; add {wanted} to requirements.txt"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "; import it by its plain name, or put both files into a folder with an __init__.py"
    return ""


def _records(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, GeneratorType):
        return _generated(value)
    return [value]


def _generated(value: Iterable[Any]) -> list[Any]:
    found = []
    for each in value:
        if each is not None:
            found.append(each)
            if len(found) > RESULTS_LIMIT:
                raise BadMessage(f"the generator makes more than {RESULTS_LIMIT} records of one")
    return found


def _keywords(arguments: dict[str, Any]) -> str:
    return "".join(f", {key}=" for key in arguments)


def _names(folder: Path) -> str:
    if not folder.is_dir():
        return f"nothing: there is no folder {folder}"
    return ", ".join(sorted(each.name for each in folder.iterdir())[:20]) or "nothing"
