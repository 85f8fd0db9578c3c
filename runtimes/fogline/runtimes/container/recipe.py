"""The recipe of a segment's image, and what of the runtime belongs into it. Pure.

Three stages: `wheels`, which stays behind; `environment`, the same for all segments with the same lock; and the
segment's own files on top. No shell runs, and nothing is fetched.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath, PurePosixPath

from fogline.runtimes.options import FRAMEWORK_ALIASES
from fogline.runtimes.spec import SegmentSpec

NOBODY = 65532
"""Whom stages run as where nobody says otherwise: never root."""
PYTHON = "/opt/fogline/bin/python"
RUNTIME = (PYTHON, "-I", "-m", "fogline.runtimes")
ARTIFACTS = "/fogline/artifacts"
WORKSPACE = "/workspace"
LETTERS = "/dead-letters"
ENVIRONMENT = "fogline.environment"
"""Label of every image from the environment on: its lock."""

OF_THE_SYSTEM = frozenset(
    f"{WORKSPACE} {LETTERS} /positions /fogline /opt/fogline / /bin /boot /dev /etc /lib /lib64 /opt /proc /run /sbin "
    "/sys /usr /var /var/run".split()
)
"""Folders that a container has of its own, or that hold the machine's: none of them is ever mounted."""
_TO_THE_GROUND = OF_THE_SYSTEM - {"/", "/opt", "/var"}
"""Those in which nothing is mounted either."""

_CONNECTORS = ("kafka", "mqtt", "websocket")
"""Those that are left out; `file` stays: trials read files with it, whatever the segment reads."""
_FRAMEWORKS = {
    "code": "python_code",
    "onnx": "onnx_model",
    "sklearn": "sklearn_model",
    "tensorflow": "tensorflow_model",
    "tflite": "tflite_model",
}


def environment(lock: str, base: str) -> str:
    """The Dockerfile up to the stage `environment`; `base` an image with the Python that `lock`, a digest, is for."""
    install = ["python3", "-I", "/build/install.py", "/build", "/opt/fogline"]
    label = f"LABEL {ENVIRONMENT}={json.dumps(lock)}"
    lines = [
        f"FROM {base} AS wheels",
        label,
        "COPY environment/ /build/",
        f"RUN {json.dumps(install)}",
        f"FROM {base} AS environment",
        label,
        "COPY --from=wheels /opt/fogline /opt/fogline",
    ]
    return "\n".join(lines) + "\n"


def segment(spec: SegmentSpec, release: str) -> str:
    """How it goes on after `FROM environment`; `release` of the runtime that is in there."""
    program = [PYTHON, "-I", "-S"]
    alive = json.dumps([*program, "/fogline/alive.py"])
    run = [*RUNTIME, "run", f"{WORKSPACE}/spec.json", "--workspace", WORKSPACE, "--artifacts", ARTIFACTS]
    run += ["--dead-letters", f"{LETTERS}/{spec.pipeline}.db", "--bind"]
    lines = [
        *([f"COPY artifacts/ {ARTIFACTS}/"] if spec.artifacts else []),
        "COPY fogline/ /fogline/",
        *(f"LABEL {key}={json.dumps(value)}" for key, value in sorted(labels(spec, release).items())),
        f"USER {NOBODY}:{NOBODY}",
        f"WORKDIR {WORKSPACE}",
        f"HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD {alive}",
        f"ENTRYPOINT {json.dumps([*program, '/fogline/inside.py'])}",
        f"CMD {json.dumps(run)}",
    ]
    return "\n".join(lines) + "\n"


def labels(spec: SegmentSpec, release: str) -> Mapping[str, str]:
    """What an image says of itself. Not its revision, which is the container's: each would be another image."""
    return {
        "org.opencontainers.image.title": f"{spec.pipeline}/{spec.segment}",
        "org.opencontainers.image.vendor": "Fogline",
        "org.opencontainers.image.version": release,
        "fogline.pipeline": spec.pipeline,
        "fogline.segment": spec.segment,
        "fogline.lock": spec.lock,
        "fogline.sources": " ".join(spec.artifacts),
    }


def belongs(file: PurePath, spec: SegmentSpec) -> bool:
    """Whether a file of the runtime, relative to `fogline/runtimes`, is one that the segment can use.

    Connectors and frameworks that it does not name are left out; what several share stays.
    """
    if len(file.parts) < 2:
        return True
    room, name = file.parts[0], file.stem
    if room == "container":  # what an image needs of this room lies beside the runtime
        return False
    used = {end.connector for end in (*spec.sources, *spec.sinks)}
    if room == "connectors":
        return not any(_is_of(name, each) for each in _CONNECTORS if each not in used)
    if room == "mqtt":
        return "mqtt" in used
    frameworks = {FRAMEWORK_ALIASES.get(stage.framework, stage.framework) for stage in spec.stages}
    return not any(name == module for each, module in _FRAMEWORKS.items() if each not in frameworks)


def secrets(spec: SegmentSpec) -> tuple[str, ...]:
    """The names of the secrets that the segment's ends are opened with, and of the token that its callers bring."""
    names = {name for end in (*spec.sources, *spec.sinks) for name in _named(end.options)}
    if spec.serving and spec.serving.token_secret:
        names.add(spec.serving.token_secret)
    return tuple(sorted(names))


def speaks_tls(spec: SegmentSpec) -> bool:
    """Whether it needs the node's certificate, or the authority of the others'."""
    return spec.serving is not None and bool(spec.serving.tls_name or spec.serving.forward.startswith("https:"))


def folders(spec: SegmentSpec) -> dict[str, str]:
    """The folders of the files that the segment reads (`ro`) and writes (`rw`); they are mounted where they are."""
    found: dict[str, str] = {}
    for ends, mode in ((spec.sources, "ro"), (spec.sinks, "rw")):
        found |= {folder_of(str(end.options["path"])): mode for end in ends if end.connector == "file"}
    return found


def folder_of(path: str) -> str:
    """The folder that holds all files of a path, which may be a pattern."""
    parts = PurePosixPath(path).parent.parts
    plain = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(PurePosixPath(*parts[:plain]))


def may_be_mounted(folder: str) -> bool:
    """Whether a container may be given this folder of its machine."""
    path = PurePosixPath(folder)
    above = {str(each) for each in (path, *path.parents)}
    return folder != "/tmp" and folder not in OF_THE_SYSTEM and not above & _TO_THE_GROUND  # noqa: S108  # its own


def _named(value: object) -> Iterable[str]:
    if not isinstance(value, Mapping):
        return
    if set(value) == {"secret"}:
        yield str(value["secret"])
        return
    for each in value.values():
        yield from _named(each)


def _is_of(module: str, connector: str) -> bool:
    return module == connector or module.startswith(f"{connector}_")
