"""One option table per connector and framework: what `props` may hold, with default, example and sentence.

The linter (`coord validate`), the plugins and the documentation read the same table. Standard library
only: the coordinator imports this module without importing a broker or model library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One key of `props`."""

    name: str
    kind: str
    """`string`, `integer`, `number`, `boolean`, `names` (a string or a list of strings), `object`, `secret`,
    `tls` (an object of files)."""
    sentence: str
    example: Any
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    available: bool = True
    """False: the key is known, but this release refuses it with "not available yet"."""


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

CONNECTORS: Mapping[str, tuple[Option, ...] | None] = {
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
"""Connector -> its options; None: the connector is known but this release refuses it."""

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

FRAMEWORKS: Mapping[str, tuple[Option, ...] | None] = {
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
        Option("input", "names", "Field, or fields in order, that the model reads.", "features"),
        Option("output", "string", "Field under which the answer is added to the record.", "score"),
        Option("input_format", "string", "Encoding of the records.", "json", default="json", choices=("json",)),
        Option("serializer", "string", "How the file was written.", "onnx", choices=("onnx",)),
        Option("optimize", "object", "Smaller model for the edge.", {"precision": "int8"}, available=False),
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
    "tensorflow": None,
    "tflite": None,
}
"""Framework -> its options; None: the framework is known but this release refuses it."""

FRAMEWORK_ALIASES: Mapping[str, str] = {"scikit-learn": "sklearn", "keras": "tensorflow"}


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
