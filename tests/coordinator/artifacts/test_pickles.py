"""The release of scikit-learn in a model file is found without loading it, however the file is packed."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fogline.coordinator.artifacts.pickles import sklearn_version
from fogline.coordinator.artifacts.resolve import resolve
from fogline.coordinator.padl.parse import load
from support.padl_files import a_document, with_value, written


@pytest.fixture(scope="module")
def model() -> Any:
    rows = np.random.default_rng(1).uniform(size=(200, 4))
    return make_pipeline(StandardScaler(), RandomForestClassifier(20)).fit(rows, rows.sum(axis=1) > 2)


@pytest.mark.parametrize("packed", [0, True, 9, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_of_joblib_in_all_its_compressions(tmp_path: Path, model: Any, packed: Any) -> None:
    joblib.dump(model, tmp_path / "m", compress=packed)
    assert sklearn_version(tmp_path / "m") == sklearn.__version__


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_of_pickle_in_all_its_protocols(tmp_path: Path, model: Any, protocol: int) -> None:
    (tmp_path / "m").write_bytes(pickle.dumps(model, protocol))
    assert sklearn_version(tmp_path / "m") == sklearn.__version__


def test_wherever_a_piece_ends(tmp_path: Path) -> None:
    model = pickle.dumps(DummyClassifier().fit([[0]], [0]))
    place = model.index(b"_sklearn_version")
    for cut in range(-4, 32):
        (tmp_path / "m").write_bytes(b" " * (1024 * 1024 - place - cut) + model)
        assert sklearn_version(tmp_path / "m") == sklearn.__version__, cut


def test_wherever_a_frame_ends(tmp_path: Path) -> None:
    for before in range(64 * 1024 - 400, 64 * 1024 + 20, 3):
        (tmp_path / "m").write_bytes(pickle.dumps([b"x" * before, DummyClassifier().fit([[0]], [0])], 4))
        assert sklearn_version(tmp_path / "m") == sklearn.__version__, before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"x\x9cgarbage",
        b"\x1f\x8bgarbage",
        b"BZhgarbage",
        b"\xfd7zXZ\x00garbage",
        pickle.dumps({"_sklearn_version": "newest"}),
        pickle.dumps({"_sklearn_version": 3}),
        pickle.dumps({"_sklearn_version": "1.9.dev0"}),
        pickle.dumps([1, 2]),
        b"\x80\x04" + b"_sklearn_version" * 1000,
    ],
)
def test_what_does_not_tell_has_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m").write_bytes(data)
    assert sklearn_version(tmp_path / "m") == ""


def test_nothing_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    assert sklearn_version(tmp_path / "m") == ""
    assert not (tmp_path / "ran").exists()


def test_memory_is_bounded_whatever_it_unpacks_to(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    joblib.dump(b"\x00" * 200_000_000, bomb, compress=9)
    (tmp_path / "m").write_bytes(bomb.getvalue())
    del bomb
    tracemalloc.start()
    assert sklearn_version(tmp_path / "m") == ""
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


def test_it_becomes_what_the_stage_asks_for(tmp_path: Path, model: Any) -> None:
    for name in ("scale", "alarm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text("def handler(data): return data\n")
    joblib.dump(model, tmp_path / "m.joblib", compress=3)
    raw = with_value(a_document(), "pipeline/judge/framework", "sklearn")
    found = resolve(load([written(tmp_path, with_value(raw, "pipeline/judge/props", {"path": "./m.joblib"}))]))
    assert found.problems == []
    assert found.requirements["judge"] == (f"scikit-learn=={sklearn.__version__}",)
    (tmp_path / "m.joblib").write_bytes(pickle.dumps([1]))
    found = resolve(load([tmp_path / "plant.json"]))
    assert found.requirements["judge"] == ()
