"""MLflow's folders of models, read without MLflow: framework, file, packages and columns stand in `MLmodel`."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.coordinator.artifacts.onnx_file import onnx_inputs
from fogline.coordinator.padl.model import CODE, Stage
from fogline.coordinator.padl.parse import Loaded, parse
from fogline.coordinator.padl.problems import Problem, error, listed, pointer_to, quoted
from fogline.coordinator.padl.source import read_source
from fogline.coordinator.padl.tree import plain
from fogline.wire.terms import ErrorKind, FoglineError

DESCRIPTION = "MLmodel"
_KERAS = ("keras", "tensorflow")
_KNOWN = ("sklearn", "onnx", *_KERAS)
_KERAS_FILES = {
    "model.keras": "keras",
    "model.h5": "h5",
    "model/saved_model.pb": "savedmodel",
    "saved_model.pb": "savedmodel",
}
"""What the data of such a flavor may hold -> how it was written."""
_BESIDE_ONNX = {".yaml", ".txt", ".json", ".onnx", ""}
_X86, _NOT_X86 = "platform_machine == 'x86_64'", "platform_machine != 'x86_64'"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN = re.compile(r"mlflow([._-](skinny|tracing))?", re.IGNORECASE)


@dataclass(frozen=True)
class MlflowModel:
    """What a folder says of its model."""

    framework: str
    serializer: str
    path: Path
    """The model inside: a file, or a folder where the serializer writes one."""
    requirements: tuple[str, ...] = ()
    """Of requirements.txt, without MLflow itself."""
    columns: tuple[str, ...] = ()
    """Of the signature, where it names columns of numbers in order."""


def is_mlflow(path: Path) -> bool:
    """Whether a folder is a model as MLflow saves it."""
    return (path / DESCRIPTION).is_file()


def read_model(folder: Path) -> MlflowModel:
    """What `MLmodel` and requirements.txt say. Raises FoglineError for what cannot be run, with what would do."""
    name, flavor, described = _flavor(folder)
    read = _sklearn if name == "sklearn" else _onnx if name == "onnx" else _keras
    model = read(folder, flavor)
    columns = _columns(described.get("signature"))
    if name in _KERAS or (name == "onnx" and not _reads_one_tensor(model.path)):
        columns = ()  # its inputs have names of their own
    lines = tuple(each for line in _requirements(folder) for each in _for_edges(line))
    return dataclasses.replace(model, requirements=lines, columns=columns)


def _flavor(folder: Path) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Name and contents of the flavor that is run, and the whole description."""
    root, problems = read_source(folder / DESCRIPTION)
    described = plain(root) if root is not None else {}
    flavors = described.get("flavors")
    if root is None or not isinstance(flavors, dict):
        reason = problems[0].message if problems else "it has no flavors"
        raise _refusal(f"{folder / DESCRIPTION} is not a description of a model: {reason}")
    for name in _KNOWN:
        if isinstance(flavors.get(name), dict):
            return name, flavors[name], described
    found = listed(map(str, flavors)) or "none"
    raise _refusal(f"the MLflow model {folder} has the flavors {found}; known: {listed(_KNOWN)}")


def completed(loaded: Loaded) -> Loaded:
    """The document with framework, serializer and input of its MLflow models filled in where it does not say.

    What it says otherwise, and what cannot be read, become problems of it.
    """
    if loaded.document is None:
        return loaded
    raw, problems = copy.deepcopy(loaded.raw), list[Problem]()
    for name, stage in loaded.document.pipeline.items():
        place = pointer_to("pipeline", name)
        pointer = place + stage.written(pointer_to("props", "path"))
        given = stage.props.get("path")
        if stage.type == CODE or not isinstance(given, str) or not given or "\0" in given:
            continue
        folder = Path(os.path.normpath(loaded.folder_of(pointer) / given))
        try:
            if not is_mlflow(folder):
                continue
            framework = _KERAS[1] if (flavor := _flavor(folder)[0]) in _KERAS else flavor
            raw["pipeline"][name].setdefault("framework", framework)
            problems += _fill(raw["pipeline"][name], stage, read_model(folder), place)
        except FoglineError as refusal:
            problems.append(error(pointer, refusal.sentence))
        except OSError as failure:
            problems.append(error(pointer, f"{failure.filename or folder} cannot be read: {failure.strerror}"))
    known = [*loaded.problems, *loaded.placed(problems)]
    return dataclasses.replace(loaded, document=parse(raw)[0], raw=raw, problems=known)


def _fill(raw: dict[str, Any], stage: Stage, model: MlflowModel, place: str) -> list[Problem]:
    props = raw.setdefault("props", {})
    if stage.framework and stage.framework != model.framework:
        message = f"framework {quoted(stage.framework)} is not that of the MLflow model, {quoted(model.framework)}"
        return [error(place + "/framework", message, f'use "{model.framework}", or leave it out')]
    if (given := props.get("serializer", model.serializer)) != model.serializer:
        message = f"serializer {quoted(str(given))} is not that of the MLflow model, {quoted(model.serializer)}"
        return [error(place + "/props/serializer", message, f'use "{model.serializer}", or leave it out')]
    props["serializer"] = model.serializer
    if model.columns:
        props.setdefault("input", list(model.columns))
    return []


def _sklearn(folder: Path, flavor: Mapping[str, Any]) -> MlflowModel:
    written = str(flavor.get("serialization_format", "pickle"))
    if written not in {"pickle", "cloudpickle"}:
        remedy = 'save it by mlflow.sklearn.save_model(..., serialization_format="cloudpickle")'
        raise _refusal(f"the MLflow model {folder} is written by {written}, which is not available yet: {remedy}")
    return MlflowModel("sklearn", "pickle", _inside(folder, flavor.get("pickled_model", "model.pkl")))


def _onnx(folder: Path, flavor: Mapping[str, Any]) -> MlflowModel:
    """MLflow puts large weights into files beside the model, unless told otherwise: then all of it is needed."""
    path = _inside(folder, flavor.get("data", "model.onnx"))
    weights = any(
        each.suffix not in _BESIDE_ONNX or (each.suffix == "" and each.name != DESCRIPTION)
        for each in path.parent.iterdir()
        if each.is_file()
    )
    return MlflowModel("onnx", "onnx-folder" if weights else "onnx", path.parent if weights else path)


def _reads_one_tensor(path: Path) -> bool:
    """Whether an ONNX model has a single input, so that its columns are the parts of that."""
    try:
        return len(onnx_inputs(path if path.is_file() else next(path.glob("*.onnx")))) == 1
    except (ValueError, StopIteration):
        return False


def _keras(folder: Path, flavor: Mapping[str, Any]) -> MlflowModel:
    data = _inside(folder, flavor.get("saved_model_dir") or flavor.get("data", "data"))
    if data.is_file():
        return MlflowModel("tensorflow", "h5" if data.suffix == ".h5" else "keras", data)
    for name, serializer in _KERAS_FILES.items():
        if (data / name).is_file():
            path = (data / name).parent if serializer == "savedmodel" else data / name
            return MlflowModel("tensorflow", serializer, path)
    raise _refusal(f"the MLflow model {folder} holds none of {listed(_KERAS_FILES)} in {data}")


def _inside(folder: Path, name: Any) -> Path:
    path = Path(os.path.normpath(folder / str(name)))
    if not path.is_relative_to(folder):
        raise _refusal(f"{folder / DESCRIPTION} names {quoted(str(name))}, which leads out of the folder")
    if not path.exists():
        raise _refusal(f"{folder / DESCRIPTION} names {path}, which is not there: save the model again")
    return path


def _columns(signature: Any) -> tuple[str, ...]:
    """The names of the inputs, where each is a column of a table."""
    try:
        inputs = json.loads(signature["inputs"])
    except (TypeError, KeyError, ValueError):
        return ()
    columns = [each for each in inputs if isinstance(each, dict)] if isinstance(inputs, list) else []
    if any(each.get("type") == "tensor" or not isinstance(each.get("name"), str) for each in columns):
        return ()
    return tuple(each["name"] for each in columns)


def _requirements(folder: Path) -> tuple[str, ...]:
    file = folder / "requirements.txt"
    found = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines() if file.is_file() else (), 1):
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        name = _NAME.match(text)
        if name is None:
            hint = "write one package a line, such as: numpy==2.4.6"
            raise _refusal(f"{file}:{number}: {quoted(text)} is not a requirement: {hint}")
        if not _OWN.fullmatch(name[0]):
            found.append(text)
    return tuple(found)


def _for_edges(line: str) -> tuple[str, ...]:
    """TensorFlow's own wheel and the one without GPUs hold the same files: only one may be installed, and Fogline's
    is the smaller where there is one."""
    name = _NAME.match(line)
    if name is None or name[0].lower() != "tensorflow" or ";" in line:
        return (line,)
    version = line[name.end() :].strip()
    return f"tensorflow-cpu{version}; {_X86}", f"tensorflow{version}; {_NOT_X86}"


def _refusal(sentence: str) -> FoglineError:
    return FoglineError(ErrorKind.INVALID_DOCUMENT, sentence)
