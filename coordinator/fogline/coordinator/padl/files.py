"""Queues that are files: which of them can be read and written together, and where relative paths start. Pure."""

from __future__ import annotations

import copy
import dataclasses
import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from fogline.coordinator.padl.links import copies, ends
from fogline.coordinator.padl.model import Document, Queue
from fogline.coordinator.padl.parse import Loaded, parse
from fogline.coordinator.padl.problems import Problem, error, keys_of, pointer_to, quoted
from fogline.runtimes.container.recipe import folder_of, may_be_mounted
from fogline.runtimes.options import file_format

FILE = "file"


def file_queues(document: Document) -> dict[str, str]:
    """Name -> path of every queue that is a file."""
    return {
        name: queue.props["path"]
        for name, queue in document.queues.items()
        if queue.connector == FILE and isinstance(queue.props.get("path"), str)
    }


def format_of(queue: Queue) -> str:
    """How its lines become records: as it says, or else as the path's ending does; empty: nobody says."""
    given = queue.props.get("format")
    return given if isinstance(given, str) else file_format(str(queue.props.get("path", "")))


def file_problems(document: Document) -> Iterator[Problem]:
    """What is wrong with queues that are files, as far as the document alone tells."""
    paths = file_queues(document)
    reads = {end.name: end.stage for end in ends(document) if end.side == "input" and end.name in paths}
    writes = {end.name: end.stage for end in ends(document) if end.side == "output" and end.name in paths}
    copied = {end.name: end.stage for end in copies(document) if end.name in paths}
    yield from _walled_off(document, paths)
    for name, path in paths.items():
        yield from _lines(name, document.queues[name])
        if name in copied and format_of(document.queues[name]) == "csv":
            message = f"stage {quoted(copied[name])} copies dead letters to {quoted(name)}, as they came: not into csv"
            yield error(_place(name), message, 'use a file of "format": "json"')
        if writer := writes.get(name) or copied.get(name):
            yield from _written(name, path, writer, reads)
    yield from _circles(paths, reads, {**copied, **writes})


def _walled_off(document: Document, paths: Mapping[str, str]) -> Iterator[Problem]:
    """Files whose folder no container is given."""
    for end in (*ends(document), *copies(document)):
        if end.name not in paths or not document.contains(document.pipeline[end.stage]):
            continue
        folder = folder_of(paths[end.name])
        if os.path.isabs(folder) and not may_be_mounted(folder):
            message = f"stage {quoted(end.stage)} runs in a container, which is never given the folder {folder}"
            yield error(_place(end.name), message, "put the file into a folder of its own, such as /data")


def relative_paths(document: Document) -> Iterator[Problem]:
    """Paths that mean nothing on another machine."""
    if document.deploy_mode == "local":
        return
    for name, path in file_queues(document).items():
        if path and not os.path.isabs(path):
            message = f"the path {quoted(path)} is looked up on the node of the stage, so it cannot be relative"
            hint = "give the absolute path on that node; `coord run` and `coord test` start from the document's folder"
            yield error(_place(name), message, hint)


def anchored(loaded: Loaded) -> Loaded:
    """The same with the paths of files starting from the folder of the document that names them."""
    if loaded.document is None:
        return loaded
    raw, written = copy.deepcopy(loaded.raw), {end.name for end in ends(loaded.document) if end.side == "output"}
    for name, path in file_queues(loaded.document).items():
        pointer = loaded.document.written(_place(name))
        if not path or os.path.isabs(path):
            continue
        folder = str(loaded.folder_of(pointer))
        *keys, last = keys_of(pointer)
        holder = raw
        for key in keys:
            holder = holder[key]
        holder[last] = os.path.normpath(os.path.join(folder if name in written else glob.escape(folder), path))
    return dataclasses.replace(loaded, document=parse(raw)[0], raw=raw)


def _lines(name: str, queue: Queue) -> Iterator[Problem]:
    if not format_of(queue):
        message = f"nothing says how the lines of {quoted(str(queue.props['path']))} become records"
        yield error(_place(name), message, 'add "format": "json", "csv" or "text" to its props')
    delimiter = queue.props.get("delimiter")
    if isinstance(delimiter, str) and (len(delimiter) != 1 or delimiter in '"\r\n'):
        place = pointer_to("queues", name, "props", "delimiter")
        yield error(place, f"delimiter must be one character, not {quoted(delimiter)}", "a comma, a semicolon, a tab")


def _written(name: str, path: str, writer: str, reads: Mapping[str, str]) -> Iterator[Problem]:
    if "*" in path or "?" in path:
        message = f"stage {quoted(writer)} writes to {quoted(path)}, so it names one file: without * and ?"
        yield error(_place(name), message, "patterns are for files that are only read")
    if name in reads:
        message = f"stage {quoted(writer)} writes the file {quoted(name)} and stage {quoted(reads[name])} reads it"
        hint = "a file is read to its end and no further: link the stages directly, or by an mqtt queue"
        yield error(_place(name), message, hint)


def _circles(paths: Mapping[str, str], reads: Mapping[str, str], writes: Mapping[str, str]) -> Iterator[Problem]:
    """A file that one queue writes and another reads, and one that two queues write."""
    first: dict[str, str] = {}
    for name in writes:
        path = os.path.normpath(paths[name])
        for other in reads:
            if other != name and PurePosixPath(path).match(os.path.normpath(paths[other])):
                message = f"what is written to {quoted(name)} is among the files that {quoted(other)} reads"
                yield error(_place(name), message, "write to another folder")
        if path in first:
            message = f"queues {quoted(first[path])} and {quoted(name)} write the same file"
            yield error(_place(name), message, "one queue is enough: several stages may write to it")
        first.setdefault(path, name)


def _place(name: str) -> str:
    return pointer_to("queues", name, "props", "path")
