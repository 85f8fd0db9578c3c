"""NVIDIA's client, unchanged: asks for one model in all ways it can and prints what it got.

python tritonclient_program.py HOST:PORT MODEL INPUT DATATYPE OUTPUT ROWS
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def main() -> None:
    """One document on standard output."""
    address, model, name, datatype, output, rows = sys.argv[1:]
    array = np.array(json.loads(rows), triton_to_np_dtype(datatype))
    with triton.InferenceServerClient(address) as client:
        found: dict[str, Any] = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model ready": client.is_model_ready(model),
            "server": client.get_server_metadata()["extensions"],
            "inputs": client.get_model_metadata(model)["inputs"],
        }
        for given in (False, True):
            for asked in (None, False, True):
                tensor = triton.InferInput(name, list(array.shape), datatype)
                tensor.set_data_from_numpy(array, binary_data=given)
                outputs = None if asked is None else [triton.InferRequestedOutput(output, binary_data=asked)]
                result = client.infer(model, [tensor], outputs=outputs, request_id="7")
                assert result.get_response()["id"] == "7"
                answer = result.as_numpy(output).tolist()
                found[f"binary {given}, {asked}"] = [_plain(each) for each in answer]
        wrong = triton.InferInput(name, [1, 1, 1, 1], datatype)
        wrong.set_data_from_numpy(array.flat[:1].reshape(1, 1, 1, 1))
        try:
            client.infer(model, [wrong])
        except InferenceServerException as error:
            found["wrong"] = [error.status(), error.message()]
    print(json.dumps(found))


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
