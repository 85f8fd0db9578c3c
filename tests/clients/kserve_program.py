"""KServe's client, unchanged: asks for one model in all ways it can and prints what it got.

python kserve_program.py URL MODEL INPUT DATATYPE OUTPUT ROWS
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import to_np_dtype


async def main() -> None:
    """One document on standard output."""
    url, model, name, datatype, output, rows = sys.argv[1:]
    array = np.array(json.loads(rows), to_np_dtype(datatype))
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    found: dict[str, Any] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model ready": await client.is_model_ready(url, model),
    }
    for given in (False, True):
        for asked in (None, False, True):
            tensor = InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array, binary_data=given)
            outputs = None if asked is None else [RequestedOutput(output, {"binary_data": asked})]
            request = InferRequest(model, [tensor], request_id="7", request_outputs=outputs)
            response = await client.infer(url, request, model_name=model)
            assert response.id == "7"
            (answer,) = [each for each in response.outputs if each.name == output]
            found[f"binary {given}, {asked}"] = [_plain(each) for each in answer.as_numpy().tolist()]
    await client.close()
    print(json.dumps(found))


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    asyncio.run(main())
