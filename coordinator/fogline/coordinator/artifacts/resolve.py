"""From a document to its artifacts: code folders bundled, model files named by digest, what is missing listed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from fogline.coordinator.artifacts.bundle import bundle_folder, bundle_model
from fogline.coordinator.artifacts.download import download
from fogline.coordinator.artifacts.entrypoint import entrypoint_problem
from fogline.coordinator.artifacts.mlflow import is_mlflow, read_model
from fogline.coordinator.artifacts.pickles import sklearn_version
from fogline.coordinator.artifacts.repository import Origin, from_repository, repository_of
from fogline.coordinator.artifacts.requirements import read_requirements
from fogline.coordinator.padl.addresses import Unfit, model_address
from fogline.coordinator.padl.available import is_remote
from fogline.coordinator.padl.model import CODE, Stage
from fogline.coordinator.padl.parse import Loaded
from fogline.coordinator.padl.problems import Problem, Severity, error, pointer_to, quoted, warning
from fogline.runtimes.options import FOLDERS, FRAMEWORKS, completed, defaults
from fogline.wire.terms import FoglineError

_SKLEARN = re.compile(r"scikit[-_.]learn\b", re.IGNORECASE)


@dataclass
class Resolved:
    """The files behind a document. Complete only when no problem is an error."""

    artifacts: dict[str, str] = field(default_factory=dict)
    """Stage -> SHA-256 of its blob, in hex."""
    blobs: dict[str, bytes | Path] = field(default_factory=dict)
    """Digest -> the bundle's bytes, or the model file that holds them."""
    paths: dict[str, Path] = field(default_factory=dict)
    """Stage -> absolute path of its folder or file, whether it is there or not; of what was fetched, in the cache."""
    requirements: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage -> packages it asks for itself, as PEP 508 lines; not what its framework and queues need."""
    commits: dict[str, str] = field(default_factory=dict)
    """Stage whose code is from git -> the commit it was taken at."""
    origins: dict[tuple[str, str, str], Origin] = field(default_factory=dict, repr=False, compare=False)
    """Address, ref and commit -> what was found there: stages that name the same get the same."""
    problems: list[Problem] = field(default_factory=list)

    def scratch(self) -> Path:
        """A new folder for blobs that are made, which goes when this does."""
        folder = Path(tempfile.mkdtemp(prefix="fogline-bundle-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


@dataclass(frozen=True)
class _Wanted:
    """One stage whose files are looked for."""

    name: str
    stage: Stage
    path: Path
    missing: Severity
    origin: Origin | None = None

    @property
    def place(self) -> str:
        return self.at("path")

    @property
    def key(self) -> str:
        """What the user calls the path."""
        return "model" if self.place.endswith("/model") else "props.path"

    @property
    def entrypoint_key(self) -> str:
        """What the user calls the entry point."""
        return "model" if self.at("entrypoint").endswith("/model") else "props.entrypoint"

    def at(self, option: str) -> str:
        """The pointer of one of the stage's props, or of the older key that stands for it."""
        return pointer_to("pipeline", self.name) + self.stage.written(pointer_to("props", option))

    def absent(self, pointer: str, message: str, hint: str) -> Problem:
        return Problem(self.missing, pointer, message, hint)


def resolve(loaded: Loaded, missing: Severity = "error") -> Resolved:
    """Read or fetch what the stages' `props.path` name; relative paths start at the file that set them.

    `missing` is the severity of files and folders that are not there; where that is a warning, nothing is fetched
    either. Stages whose path is absent, not a string or no address that is allowed are left to `check` and
    `unavailable`. Never raises for what a user can get wrong.
    """
    resolved = Resolved()
    stages = loaded.document.pipeline if loaded.document is not None else {}
    for name, stage in stages.items():
        place = pointer_to("pipeline", name) + stage.written(pointer_to("props", "path"))
        given = stage.props.get("path")
        if not isinstance(given, str) or not given or "\0" in given:
            continue
        path = Path(os.path.normpath(loaded.folder_of(place) / given))
        wanted = _Wanted(name, stage, path, missing)
        try:
            problems = _code(wanted, resolved) if stage.type == CODE else _model(wanted, resolved)
        except Unfit:
            problems = []  # `check` says why
        except FoglineError as refusal:
            problems = [error(place, refusal.sentence)]
        except OSError as failure:
            problems = [error(place, f"{failure.filename or path} cannot be read: {failure.strerror}")]
        resolved.problems += loaded.placed(problems)
    return resolved


def _code(wanted: _Wanted, resolved: Resolved) -> list[Problem]:
    address = repository_of(wanted.stage, wanted.path)
    if address is None:
        resolved.paths[wanted.name] = wanted.path
        return _folder(wanted, resolved)
    if wanted.missing == "warning":
        return []
    origin = from_repository(address, wanted.stage, resolved.origins)
    found = origin.checkout
    resolved.paths[wanted.name], resolved.commits[wanted.name] = found.folder, found.commit
    wanted = replace(wanted, path=found.folder, origin=origin)
    return [*(warning(wanted.place, each) for each in origin.left_behind), *_folder(wanted, resolved)]


def _folder(wanted: _Wanted, resolved: Resolved) -> list[Problem]:
    if not wanted.path.exists():
        return [wanted.absent(wanted.place, f"there is no folder {wanted.path}", "it holds the stage's code")]
    if not wanted.path.is_dir():
        hint = f"{wanted.key} names the folder, props.entrypoint the file in it"
        return [error(wanted.place, f"{wanted.path} is not a folder", hint)]
    lines, refused = read_requirements(wanted.path)
    problems = [*_entrypoint(wanted), *(error(wanted.place, message, hint) for message, hint in refused)]
    if not problems:
        resolved.requirements[wanted.name] = lines
        bundle = bundle_folder(wanted.path)
        digest = hashlib.sha256(bundle).hexdigest()
        resolved.artifacts[wanted.name] = digest
        resolved.blobs[digest] = bundle
    return problems


def _entrypoint(wanted: _Wanted) -> list[Problem]:
    options = defaults(FRAMEWORKS[CODE], wanted.stage.props)
    entrypoint, function = options.get("entrypoint"), options.get("function")
    if not isinstance(entrypoint, str) or not isinstance(function, str):
        return []
    place = wanted.at("entrypoint")
    inside = PurePosixPath(entrypoint)
    if inside.is_absolute() or ".." in inside.parts or "\0" in entrypoint:
        return [error(place, f"entrypoint {quoted(entrypoint)} leads out of the folder", "name a file inside it")]
    file = wanted.path / inside
    if wanted.origin is not None and (reason := wanted.origin.without(inside)):
        return [error(place, reason, f"{wanted.entrypoint_key} starts at the top of the repository")]
    if not file.exists():
        return [wanted.absent(place, f"there is no file {file}", f"{wanted.entrypoint_key} names the Python file")]
    if not file.is_file():
        return [error(place, f"{file} is not a file", "name the Python file that holds the function")]
    message, hint = entrypoint_problem(file, function)
    return [error(wanted.at("function"), message, hint)] if message else []


def _model(wanted: _Wanted, resolved: Resolved) -> list[Problem]:
    serializer = completed(wanted.stage.framework, wanted.stage.props).get("serializer")
    folder = isinstance(serializer, str) and serializer in FOLDERS
    given = str(wanted.stage.props["path"])
    if is_remote(given):
        if wanted.missing == "warning" or not given.lower().startswith("https:"):
            return []
        wanted = replace(wanted, path=download(model_address(given)))
    resolved.paths[wanted.name] = wanted.path
    if not wanted.path.exists():
        hint = "relative paths start at the folder of the document"
        return [wanted.absent(wanted.place, f"there is no model {'folder' if folder else 'file'} {wanted.path}", hint)]
    requirements: tuple[str, ...] = ()
    if is_mlflow(wanted.path):
        model = read_model(wanted.path)
        requirements, wanted = model.requirements, replace(wanted, path=model.path)
        resolved.paths[wanted.name] = model.path
    if wanted.stage.framework == "sklearn" and not any(_SKLEARN.match(line) for line in requirements):
        requirements += _pin(wanted.path)
    resolved.requirements[wanted.name] = requirements
    return _model_folder(wanted, resolved) if folder else _model_file(wanted, resolved)


def _model_file(wanted: _Wanted, resolved: Resolved) -> list[Problem]:
    if not wanted.path.is_file():
        return [error(wanted.place, f"{wanted.path} is not a file", f"{wanted.key} names the model file itself")]
    if wanted.path.stat().st_size == 0:
        return [error(wanted.place, f"the model file {wanted.path} is empty", "save the model again")]
    _keep(wanted, resolved, wanted.path)
    return []


def _model_folder(wanted: _Wanted, resolved: Resolved) -> list[Problem]:
    found = {each.name for each in wanted.path.iterdir()} if wanted.path.is_dir() else set()
    models = [each for each in found if each == "saved_model.pb" or each.endswith(".onnx")]
    if len(models) != 1:
        message = f"{wanted.path} is not the folder of a model: it must hold one saved_model.pb, or one .onnx file"
        return [error(wanted.place, message, "save it by model.export, or name the model file itself")]
    bundle = resolved.scratch() / "model.tar"
    bundle_model(wanted.path, bundle)
    _keep(wanted, resolved, bundle)
    return []


def _pin(path: Path) -> tuple[str, ...]:
    """Another release of scikit-learn may answer differently, or refuse the file."""
    version = sklearn_version(path) if path.is_file() else ""
    return (f"scikit-learn=={version}",) if version else ()


def _keep(wanted: _Wanted, resolved: Resolved, blob: Path) -> None:
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    resolved.artifacts[wanted.name] = digest
    resolved.blobs[digest] = blob
