from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.served import Served, code_served, onnx_stage, served, serving_all, sklearn_stage, two_inputs_stage

LIMIT_BYTES = 64 * 1024


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """One process each for all tests of this folder, which leave them as they are."""
    folder = tmp_path_factory.mktemp("served")
    stages = {
        "sklearn": sklearn_stage(folder / "a"),
        "named": sklearn_stage(folder / "b", input=["a", "b", "c"]),
        "onnx": onnx_stage(folder / "c"),
        "two": two_inputs_stage(folder / "d"),
        "code": code_served(folder / "e"),
    }
    specs = {name: served(stage, limit_bytes=LIMIT_BYTES) for name, stage in stages.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with serving_all(folder / "work", specs) as made:
            yield made
