"""What the chain is called and says of itself: metadata, OpenAPI, the page."""

from __future__ import annotations

from typing import Any

from fogline.runtimes.frameworks.signature import Declared, Signature
from fogline.runtimes.serving import schemas
from fogline.runtimes.serving.chain import Chain
from fogline.runtimes.serving.http import Reply
from fogline.runtimes.serving.inference import ANSWER, UNNAMED, is_code
from fogline.runtimes.serving.openapi import document
from fogline.runtimes.serving.page import page
from fogline.runtimes.serving.tensors import BYTES
from fogline.runtimes.spec import ServingSpec


class Model:
    """The chain as one model of the Open Inference Protocol."""

    def __init__(self, spec: ServingSpec, chain: Chain) -> None:
        alone = chain.stages if len(chain.stages) == 1 and not spec.forward else ()
        self.names = tuple(dict.fromkeys((spec.model, *alone)))
        self.revision = ""
        """Of the pipeline: the model's version. Empty: nobody has told it."""
        self.reads: Signature | None = chain.first.signature()
        self._stages, self._code = chain.stages, is_code(chain.first)
        self._platform = "_".join(("fogline", *dict.fromkeys(each.stage.framework for each in chain.frameworks)))
        self._inputs = [_declared(each, UNNAMED) for each in self.reads.inputs] if self.reads is not None else []
        if self._code:
            self._inputs = [{"name": UNNAMED, "datatype": BYTES, "shape": [-1]}]
        answers = chain.last.signature()
        self._answers = answers.outputs if answers is not None else ()
        self._outputs = [_declared(each, ANSWER) for each in self._answers]
        if is_code(chain.last):
            self._outputs = [{"name": ANSWER, "datatype": BYTES, "shape": [-1]}]

    def named(self) -> dict[str, str]:
        """How every answer begins."""
        name = {"model_name": self.names[0]}
        return name | {"model_version": self.revision} if self.revision else name

    def server(self) -> dict[str, Any]:
        """Metadata of the server."""
        return {"name": "fogline", "version": "2", "extensions": ["binary_tensor_data"]}

    def metadata(self) -> dict[str, Any]:
        """Metadata of the model; the first dimension of every tensor counts records."""
        return {
            "name": self.names[0],
            "versions": [self.revision] if self.revision else [],
            "platform": self._platform,
            "inputs": self._inputs,
            "outputs": self._outputs,
        }

    def openapi(self, *, secured: bool) -> dict[str, Any]:
        """With schemas of records and answers, as far as the models say."""
        found = {
            "Record": schemas.record(self.reads),
            "Answer": schemas.answer(self._answers),
            "InferenceRequest": schemas.request(self.reads, code=self._code),
            "InferenceResponse": schemas.response(),
        }
        return document(self.names[0], self.revision, found, secured=secured)

    def page(self, *, secured: bool) -> Reply:
        """For people."""
        return page(self.names[0], self.revision, self._stages, schemas.example(self.reads), secured=secured)


def _declared(tensor: Declared, unnamed: str) -> dict[str, Any]:
    return {"name": tensor.name or unnamed, "datatype": tensor.datatype, "shape": [-1, *tensor.shape]}
