"""Which plugin answers to which name. Explicit tables, then what other packages offer; a plugin's library is imported
when it is used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from fogline.runtimes import options, plugins
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
    dotted = CONNECTORS.get(endpoint.connector) or _offered("connectors", endpoint.connector)
    if not dotted:
        raise SpecError(f"queue {endpoint.queue}: {_unknown('connectors', endpoint.connector)}")
    try:
        found: Connector = _named(dotted)
    except ModuleNotFoundError as error:
        reason = f"connector {endpoint.connector} needs {error.name}, which is not installed here"
        raise StageUnusable(endpoint.stage, reason) from error
    if endpoint.envelopes:
        return Enveloped(found)
    return Annotated(found) if "metadata" in endpoint.options else found


def framework(stage: StageSpec, artifacts: Path) -> Framework:
    """The stage's plugin, not loaded yet. Raises SpecError for an unknown name, StageUnusable for another package's
    that cannot be imported."""
    name = options.FRAMEWORK_ALIASES.get(stage.framework, stage.framework)
    dotted = FRAMEWORKS.get(name) or _offered("frameworks", name)
    if not dotted:
        raise SpecError(f"stage {stage.name}: {_unknown('frameworks', stage.framework)}")
    try:
        made: Framework = _named(dotted)(stage, artifacts)
    except (ImportError, AttributeError) as error:
        raise StageUnusable(stage.name, f"framework {name} cannot be imported from {dotted}: {error}") from error
    return made


def _offered(kind: plugins.Kind, name: str) -> str:
    plugin = plugins.found(kind).plugins.get(name)
    return plugin.implementation if plugin else ""


def _unknown(kind: plugins.Kind, name: str) -> str:
    """Why there is none of this name here."""
    what = kind.removesuffix("s")
    if reason := plugins.found(kind).refused.get(name):
        return f"{what} {reason}"
    return f"neither this release nor a package installed here has a {what} {name!r}"


def _named(dotted: str) -> Any:
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
