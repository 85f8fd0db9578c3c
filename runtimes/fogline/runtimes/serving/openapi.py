"""`/openapi.json`: what may be called here, in OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = dict[str, Any]

_REFUSALS = {
    400: "the request or a record of it is not what it must be; the sentence says what was expected",
    401: "no token, or another one",
    404: "there is no such model, or no such version of it",
    408: "the rest of the request did not come",
    413: "the request is too large",
    415: "the body is not JSON, or compressed",
    500: "a stage of the pipeline failed at a record",
    502: "the next process of the pipeline makes no sense",
    503: "too many records are waiting, or a process of the pipeline is away: come again as Retry-After says",
    504: "the answer did not come within the time limit",
}


def document(name: str, revision: str, schemas: Mapping[str, Document], *, secured: bool) -> Document:
    """`schemas`: Record, Answer, InferenceRequest, InferenceResponse."""
    version = {"version": revision or "0"}
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    made: Document = {
        "openapi": "3.1.0",
        "info": {"title": name, "description": "A pipeline of Fogline in API mode."} | version,
        "paths": _paths(name),
        "components": {"schemas": {**schemas, "Error": error}},
    }
    if secured:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    return made


def _paths(name: str) -> Document:
    record, answer = _ref("Record"), _ref("Answer")
    several = {"anyOf": [record, {"type": "array", "items": record}]}
    each = {"anyOf": [answer, {"type": "null"}, {"type": "array"}]}
    answers = {"anyOf": [answer, {"type": "array", "items": each}]}
    object_ = {"type": "object"}
    model = f"/v2/models/{name}"
    return {
        "/predict": _post("One record, or a list of records", several, answers, {204: "the record was filtered"}),
        f"{model}/infer": _post("Open Inference Protocol", _ref("InferenceRequest"), _ref("InferenceResponse"), {}),
        model: _get("The model: its tensors", object_),
        f"{model}/ready": _get("Whether the model answers", object_, {503: "it is about to end"}, is_open=True),
        "/v2": _get("The server", object_),
        "/v2/health/live": _get("Whether the process lives", object_, is_open=True),
        "/v2/health/ready": _get("Whether requests are welcome", object_, {503: "it is about to end"}, is_open=True),
        "/health": _get("The same, for people", object_, {503: "it is about to end"}, is_open=True),
        "/metrics": _get("What Prometheus reads", None),
    }


def _post(summary: str, body: Document, answer: Document, more: Mapping[int, str]) -> Document:
    responses = {200: _content("the answer", answer)}
    responses |= {status: {"description": words} for status, words in more.items()}
    responses |= {status: _content(words, _ref("Error")) for status, words in _REFUSALS.items()}
    return {"post": _operation(summary, responses) | {"requestBody": {"required": True} | _json(body)}}


def _get(
    summary: str, answer: Document | None, more: Mapping[int, str] | None = None, *, is_open: bool = False
) -> Document:
    text = {"description": "text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    responses = {200: text if answer is None else _content("the answer", answer)}
    responses |= {status: _content(words, {"type": "object"}) for status, words in (more or {}).items()}
    if is_open:
        return {"get": _operation(summary, responses) | {"security": []}}
    return {"get": _operation(summary, responses | {401: _content(_REFUSALS[401], _ref("Error"))})}


def _operation(summary: str, responses: Mapping[int, Document]) -> Document:
    return {"summary": summary, "responses": {str(status): each for status, each in responses.items()}}


def _content(words: str, schema: Document) -> Document:
    return {"description": words} | _json(schema)


def _json(schema: Document) -> Document:
    return {"content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}
