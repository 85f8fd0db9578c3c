"""The committed protobuf modules are what the pinned generator makes of the .proto files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(proto: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(proto / "generate.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_generated_modules_are_fresh() -> None:
    done = check(ROOT / "proto")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_changed_proto_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("__pycache__"))
    common = tmp_path / "proto/fogline/v1/common.proto"
    common.write_text(common.read_text() + "\nmessage Planted {}\n")
    done = check(tmp_path / "proto")
    assert done.returncode == 1
    assert "stale: fogline/v1/common_pb2.py" in done.stdout
