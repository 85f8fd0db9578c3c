"""One option table per connector and framework: what `props` may hold, with default, example and sentence.

The linter (`coord validate`), the plugins and the documentation read the same table. Standard library
only: the coordinator imports this module without importing a broker or model library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fogline.runtimes.plugins import Option as Option
from fogline.runtimes.plugins import Table as Table

_FORMAT = Option(
    "format", "string", "How a payload becomes a record.", "json", default="json", choices=("json", "text", "bytes")
)

_TLS = Option(
    "tls",
    "tls",
    'Transport security: "ca" to check the broker by (this machine\'s own when absent), "cert" and "key" to show it.',
    {"ca": "/etc/ssl/plant.pem"},
)

_METADATA = Option(
    "metadata",
    "string",
    "Field that each record which is read gets, with its topic, key, time and headers. Needs the format json.",
    "_meta",
)

_CONNECTORS: Mapping[str, tuple[Option, ...]] = {
    "mqtt": (
        Option("server", "string", "Host name or address of the broker.", "localhost", required=True),
        Option("port", "integer", "Port of the broker.", 1883, default=1883, minimum=1, maximum=65535),
        Option("topic", "string", "Topic that is read or written.", "plant/raw", required=True),
        Option(
            "qos",
            "integer",
            "1: the broker keeps and confirms; 0: neither, records may be lost.",
            1,
            default=1,
            choices=(0, 1),
        ),
        _FORMAT,
        Option("username", "string", "Login name.", "edge"),
        Option("password", "secret", "Password of the login, as the name of a secret of the node.", {"secret": "mqtt"}),
        _TLS,
        _METADATA,
        Option("group", "string", "A reader's name of one's own.", "dashboards", available=False),
        Option("start", "string", "Where a first submit begins to read.", "earliest", available=False),
        Option(
            "client",
            "string",
            "Who speaks MQTT: Fogline itself (lean, also when absent), or the library paho, which is slower.",
            "paho",
            choices=("lean", "paho"),
        ),
    ),
    "kafka": (
        Option(
            "server",
            "string",
            "Host name or address of a broker; its cluster's others are found.",
            "localhost",
            required=True,
        ),
        Option("port", "integer", "Port of the broker.", 9092, default=9092, minimum=1, maximum=65535),
        Option("topic", "string", "Topic that is read or written.", "plant.raw", required=True),
        _FORMAT,
        Option("create", "boolean", "Whether a topic that does not exist is made (true when absent).", False),
        Option("partitions", "integer", "Partitions of a topic that is made; 1 when absent.", 4, minimum=1),
        Option("username", "string", "Login name (SASL).", "edge"),
        Option(
            "password", "secret", "Password of the login, as the name of a secret of the node.", {"secret": "kafka"}
        ),
        Option(
            "mechanism",
            "string",
            "How the login is proven; PLAIN when absent.",
            "SCRAM-SHA-512",
            choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        ),
        _TLS,
        _METADATA,
        Option("group", "string", "A reader's consumer group, instead of the one named after its stage.", "dashboards"),
        Option(
            "start",
            "string",
            "Where a first submit begins to read; earliest when absent.",
            "latest",
            choices=("earliest", "latest"),
        ),
        Option(
            "client",
            "string",
            "Who speaks Kafka: confluent (confluent-kafka, the default where it is there) or python (kafka-python).",
            "python",
            choices=("confluent", "python"),
        ),
    ),
    "websocket": (
        Option("server", "string", "Host name or address of the end that listens.", "edge1", required=True),
        Option("port", "integer", "Port of the end that listens.", 8765, required=True, minimum=1, maximum=65535),
        Option("topic", "string", "Path of the URL.", "plant/raw", required=True),
        Option(
            "role",
            "string",
            "What the reading stage does, or the writing one where no stage reads: listen on its node, or connect. "
            "Without it a reading stage listens and a writing one connects.",
            "listen",
            choices=("listen", "connect"),
        ),
        _FORMAT,
        Option("tls", "object", "Transport security.", {"ca": "ca.pem"}, available=False),
        Option("username", "string", "Login name.", "edge", available=False),
        Option("password", "secret", "Password of the login.", {"secret": "plant"}, available=False),
    ),
    "file": (
        Option(
            "path",
            "string",
            "File on the node of the stage; where it is read, with * and ? for several files.",
            "/data/in/*.csv",
            required=True,
        ),
        Option(
            "format",
            "string",
            "How a line becomes a record: json (a JSON value), csv (with a header) or text; else as the path ends.",
            "csv",
            choices=("json", "csv", "text"),
        ),
        Option("delimiter", "string", "What stands between the cells of a csv file.", ";", default=","),
    ),
}
CONNECTORS = Table("connectors", _CONNECTORS, lambda plugin: plugin.options)
"""Connector -> its options."""

LOOPBACK = ("localhost", "127.", "::1")
"""How the name of a server begins that every machine looks for on itself."""

ADDRESS = ("server", "port", "topic")
"""The options that say where a queue is; the others say how it is read and written."""

FILE_FORMATS: Mapping[str, str] = {
    ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".txt": "text"
}  # fmt: skip
"""Ending of a file's name -> how it is read and written when no `format` says so."""

BATCH_SIZES: Mapping[str, int] = {"kafka": 2048}
"""Connector -> how many records a segment that reads nothing else runs at once where the document does not say: a
batch of Kafka's costs little more for being large, and each waits for its own confirmation."""
BATCH_SIZE = 256
"""For all others."""

_TENSORS = (
    Option("input", "names", "Field, or fields in order, that the model reads.", "features"),
    Option("output", "string", "Field under which the answer is added to the record.", "score"),
    Option("input_format", "string", "Encoding of the records.", "json", default="json", choices=("json",)),
    Option("optimize", "object", "Smaller model for the edge.", {"precision": "int8"}, available=False),
)
"""Of every framework whose models read tensors."""

_FRAMEWORKS: Mapping[str, tuple[Option, ...]] = {
    "code": (
        Option(
            "path",
            "string",
            "Folder of the code, relative to the document, or a git repository: a path, https, ssh or USER@HOST:PATH.",
            "./preparation",
            required=True,
        ),
        Option("ref", "string", "Branch, tag or commit of the repository; its own default when absent.", "main"),
        Option(
            "commit",
            "string",
            "The commit that is taken, whatever ref says by now; submit fills it in.",
            "3f2c1b9a0d4e5f60718293a4b5c6d7e8f9012345",
        ),
        Option("entrypoint", "string", "File in the folder.", "main.py", default="main.py"),
        Option("function", "string", "Function or class in that file.", "handler", default="handler"),
    ),
    "onnx": (
        Option("path", "string", "Model file, relative to the document.", "./models/detector.onnx", required=True),
        Option(
            "serializer",
            "string",
            "onnx: one file, also when absent. onnx-folder: path is a folder of one .onnx file and its weights beside.",
            "onnx",
            choices=("onnx", "onnx-folder"),
        ),
        *_TENSORS,
    ),
    "sklearn": (
        Option("path", "string", "Model file, relative to the document.", "./models/forest.joblib", required=True),
        Option(
            "serializer",
            "string",
            "How the file was written.",
            "joblib",
            default="joblib",
            choices=("joblib", "pickle"),
        ),
        Option("input", "names", "Field, or fields in order, that the model reads.", ["cpu", "net"]),
        Option("output", "string", "Field under which the answer is added to the record.", "score"),
        Option(
            "method",
            "string",
            "Which method of the model answers.",
            "predict_proba",
            default="predict",
            choices=("predict", "predict_proba", "decision_function", "score_samples", "transform"),
        ),
        Option("input_format", "string", "Encoding of the records.", "json", default="json", choices=("json",)),
        Option("optimize", "object", "Smaller model for the edge.", {"precision": "int8"}, available=False),
    ),
    "tensorflow": (
        Option(
            "path", "string", "Model file or folder, relative to the document.", "./models/net.keras", required=True
        ),
        Option(
            "serializer",
            "string",
            "How it was written; else as the path ends: .h5, .keras, anything else is a SavedModel folder.",
            "keras",
            choices=("h5", "keras", "savedmodel"),
        ),
        *_TENSORS,
    ),
    "tflite": (
        Option("path", "string", "Model file, relative to the document.", "./models/net.tflite", required=True),
        Option("serializer", "string", "How the file was written.", "tflite", choices=("tflite",)),
        *_TENSORS,
    ),
}
FRAMEWORKS = Table("frameworks", _FRAMEWORKS, lambda plugin: plugin.options)
"""Framework -> its options."""

ENDPOINT = (
    Option(
        "port",
        "integer",
        "API mode, first stage: the port that it listens at; when absent, one of its node's range (--ports).",
        8080,
        minimum=1,
        maximum=65535,
    ),
    Option("auth", "string", "API mode, first stage: what a caller must bring.", "token", choices=("token",)),
    Option(
        "token",
        "secret",
        "The token that callers bring as `Authorization: Bearer`, as the name of a secret of each node that serves.",
        {"secret": "endpoint"},
    ),
)
"""What `props` of the first stage may say of the endpoint in API mode, besides the options of its framework."""

FRAMEWORK_ALIASES: Mapping[str, str] = {"scikit-learn": "sklearn", "keras": "tensorflow"}


RUNTIME_REQUIREMENTS = ("orjson>=3.9",)
"""What a stage process needs whatever it runs. Requirements here are PEP 508 strings, those of the extras."""
SERVING_REQUIREMENTS = ("uvicorn>=0.30,<0.55", "uvloop>=0.19", "httptools>=0.6")
"""What it needs besides to answer requests, in API mode. `serving/protocol.py` goes beyond what uvicorn documents:
a newer one is let in when it was tried."""
SERVING = "serving"
"""The extra that brings these."""

_NUMPY = "numpy>=1.26"
_FRAMEWORK_REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "code": (),
    "onnx": ("onnxruntime>=1.18", _NUMPY),
    "sklearn": ("scikit-learn>=1.4", "joblib>=1.3", _NUMPY),
    "tensorflow": (
        "tensorflow-cpu>=2.16; platform_machine == 'x86_64'",
        "tensorflow>=2.16; platform_machine != 'x86_64'",
        _NUMPY,
    ),
    "tflite": (
        "ai-edge-litert>=1.2; platform_machine != 'armv7l'",
        "tflite-runtime>=2.14; platform_machine == 'armv7l'",
        _NUMPY,
    ),
}
FRAMEWORK_REQUIREMENTS = Table("frameworks", _FRAMEWORK_REQUIREMENTS, lambda plugin: plugin.requirements)
"""Framework -> what its stages need."""

_CONNECTOR_REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "file": (),
    "kafka": (
        "confluent-kafka>=2.4; "
        "platform_machine == 'x86_64' or platform_machine == 'aarch64' or platform_machine == 'arm64'",
        "kafka-python>=3.0,<4",
    ),
    "mqtt": (),
    "websocket": ("websockets>=12",),
}
CONNECTOR_REQUIREMENTS = Table("connectors", _CONNECTOR_REQUIREMENTS, lambda plugin: plugin.requirements)
"""Connector -> what the stages at its queues need."""

CLIENT_REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "paho": ("paho-mqtt>=2.0,<3",),
    "python": ("kafka-python>=3.0,<4",),
}
"""A queue's option `client` -> the packages it needs, instead of what its connector needs otherwise."""


def file_format(path: str) -> str:
    """The format that a path's ending stands for; empty when it says nothing."""
    name = path.rpartition("/")[2].lower()
    return FILE_FORMATS.get(name[name.rfind(".") :], "") if "." in name else ""


def listens(role: str | None, *, reads: bool, read_by_stage: bool) -> bool:
    """Whether an end of a WebSocket queue listens: `reads`, or it writes what a stage reads or none does."""
    if reads or read_by_stage:
        return reads == (role != "connect")
    return role == "listen"


def defaults(table: tuple[Option, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options completed by the table's defaults."""
    known = {option.name: option.default for option in table if option.default is not None}
    return known | dict(given)


PICKLES = frozenset({"joblib", "pickle"})
"""Serializers whose files run code when they are read."""
FOLDERS = frozenset({"savedmodel", "onnx-folder"})
"""Serializers that write a folder: the artifact is its bundle."""
_SERIALIZERS: Mapping[str, str] = {".h5": "h5", ".hdf5": "h5", ".keras": "keras"}
"""Ending of a TensorFlow model's path -> how it was written."""


def completed(framework: str, props: Mapping[str, Any]) -> dict[str, Any]:
    """The props of a stage with the defaults of its framework, and the serializer that the path's ending stands for."""
    known = defaults(FRAMEWORKS.get(framework, ()), props)
    if framework == "tensorflow":
        name = str(known.get("path", "")).partition("#")[0].rstrip("/").rpartition("/")[2].lower()
        ending = name[name.rfind(".") :] if "." in name else ""
        known.setdefault("serializer", _SERIALIZERS.get(ending, "savedmodel"))
    return known
