"""Which plugin answers to which name. Explicit tables; a plugin's library is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from fogline.runtimes import options
from fogline.runtimes.connectors.annotated import Annotated
from fogline.runtimes.connectors.base import Connector
from fogline.runtimes.connectors.envelopes import Enveloped
from fogline.runtimes.errors import StageUnusable
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.spec import EndpointSpec, SpecError, StageSpec

CONNECTORS = {
    "file": "fogline.runtimes.connectors.file:connector",
    "kafka": "fogline.runtimes.connectors.kafka:connector",
    "mqtt": "fogline.runtimes.connectors.mqtt:connector",
    "websocket": "fogline.runtimes.connectors.websocket:connector",
}
FRAMEWORKS = {
    "code": "fogline.runtimes.frameworks.python_code:PythonCode",
    "onnx": "fogline.runtimes.frameworks.onnx_model:OnnxModel",
    "sklearn": "fogline.runtimes.frameworks.sklearn_model:SklearnModel",
    "tensorflow": "fogline.runtimes.frameworks.tensorflow_model:TensorflowModel",
    "tflite": "fogline.runtimes.frameworks.tflite_model:TfliteModel",
}


def connector(endpoint: EndpointSpec) -> Connector:
    """The plugin of a queue. Raises SpecError for an unknown name, StageUnusable without its library."""
    if endpoint.connector not in CONNECTORS:
        raise SpecError(f"queue {endpoint.queue}: this release has no connector {endpoint.connector!r}")
    try:
        found: Connector = _named(CONNECTORS[endpoint.connector])
    except ModuleNotFoundError as error:
        reason = f"connector {endpoint.connector} needs {error.name}, which is not installed here"
        raise StageUnusable(endpoint.stage, reason) from error
    if endpoint.envelopes:
        return Enveloped(found)
    return Annotated(found) if "metadata" in endpoint.options else found


def framework(stage: StageSpec, artifacts: Path) -> Framework:
    """The stage's plugin, not loaded yet. Raises SpecError for an unknown name."""
    name = options.FRAMEWORK_ALIASES.get(stage.framework, stage.framework)
    if name not in FRAMEWORKS:
        raise SpecError(f"stage {stage.name}: this release has no framework {stage.framework!r}")
    made: Framework = _named(FRAMEWORKS[name])(stage, artifacts)
    return made


def _named(dotted: str) -> Any:
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
