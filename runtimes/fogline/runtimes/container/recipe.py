"""The recipes of a segment's image and of its environment's, and what of the runtime belongs into it. Pure.

Three layers: the base; the environment, the same for all segments with the same lock; the segment's own files. No
shell runs, nothing is fetched, and the wheels stay behind in a stage of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from fogline.runtimes.options import FRAMEWORK_ALIASES
from fogline.runtimes.spec import SegmentSpec

NOBODY = 65532
"""Whom stages run as where nobody says otherwise: never root."""
PYTHON = "/opt/fogline/bin/python"
RUNTIME = (PYTHON, "-I", "-m", "fogline.runtimes")
ARTIFACTS = "/fogline/artifacts"
WORKSPACE = "/workspace"
ENVIRONMENT = "fogline.environment"
"""Label of the images that hold an environment: its lock."""
OWN_FILES = ("inside.py", "shim.py", "alive.py")

_CONNECTORS = ("kafka", "mqtt", "websocket")
"""Those that are left out; `file` stays: trials read files with it, whatever the segment reads."""
_FRAMEWORKS = {
    "code": "python_code",
    "onnx": "onnx_model",
    "sklearn": "sklearn_model",
    "tensorflow": "tensorflow_model",
    "tflite": "tflite_model",
}


def environment(lock: str, base: str, python: str, *, wheels: bool) -> str:
    """The Dockerfile of an environment; `base` an image with `python` (`3.11`), `wheels`: whether there are any."""
    site = f"/opt/fogline/lib/python{python}/site-packages"
    install = ["/build/uv", "pip", "install", "--quiet", "--offline", "--no-index", "--no-cache", "--no-deps"]
    install += ["--require-hashes", "--compile-bytecode", "--python", PYTHON]
    install += ["--find-links", "/build/wheels", "--requirement", "/build/requirements.txt"]
    venv = ["/build/uv", "venv", "--quiet", "--offline", "--no-cache", "--python", "/usr/bin/python3", "/opt/fogline"]
    lines = [
        f"FROM {base} AS wheels",
        f"LABEL {ENVIRONMENT}={json.dumps(lock)}",
        "COPY uv /build/uv",
        f"RUN {json.dumps(venv)}",
        *(["COPY requirements.txt /build/", "COPY wheels/ /build/wheels/", f"RUN {json.dumps(install)}"] * wheels),
        f"COPY _fogline.pth {site}/",
        f"FROM {base}",
        "COPY --from=wheels /opt/fogline /opt/fogline",
        f"LABEL {ENVIRONMENT}={json.dumps(lock)}",
    ]
    return "\n".join(lines) + "\n"


def segment(spec: SegmentSpec, parent: str) -> str:
    """The Dockerfile of a segment; `parent` is the image of its environment."""
    program = [PYTHON, "-I", "-S"]
    alive = json.dumps([*program, "/fogline/alive.py"])
    lines = [
        f"FROM {parent}",
        f"COPY {' '.join(OWN_FILES)} /fogline/",
        "COPY runtime/ /fogline/runtime/",
        *([f"COPY artifacts/ {ARTIFACTS}/"] if spec.artifacts else []),
        *(f"LABEL {key}={json.dumps(value)}" for key, value in sorted(labels(spec).items())),
        f"USER {NOBODY}:{NOBODY}",
        f"WORKDIR {WORKSPACE}",
        f"HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD {alive}",
        f"ENTRYPOINT {json.dumps([*program, '/fogline/inside.py'])}",
    ]
    return "\n".join(lines) + "\n"


def labels(spec: SegmentSpec) -> Mapping[str, str]:
    """What an image says of itself."""
    return {
        "org.opencontainers.image.title": f"{spec.pipeline}/{spec.segment}",
        "org.opencontainers.image.vendor": "Fogline",
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
