"""Generate the protobuf modules: `python proto/generate.py`; `--check` compares instead of writing.

The only place the generator is named. It is pinned (grpcio-tools 1.76.0 writes code for protobuf >= 6.31.1)
so that stages with TensorFlow can share an environment with what is generated.
"""

from __future__ import annotations

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = Path("fogline/v1")


def generate(target: Path) -> None:
    """Write every generated module under `target`/fogline/v1."""
    protos = sorted(str(path.relative_to(HERE)) for path in (HERE / PACKAGE).glob("*.proto"))
    services = [name for name in protos if "\nservice " in (HERE / name).read_text()]
    _protoc(target, protos, "--python_out", "--mypy_out=quiet")
    _protoc(target, services, "--grpc_python_out", "--mypy_grpc_out=quiet")


def _protoc(target: Path, protos: list[str], *plugins: str) -> None:
    outputs = [f"{plugin}:{target}" if "=" in plugin else f"{plugin}={target}" for plugin in plugins]
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", *outputs, *protos],
        check=True,
        cwd=HERE,
        env=environment,
    )


def stale() -> list[str]:
    """Names of generated files that differ from what the .proto files say now."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {path.name: path for path in (Path(scratch) / PACKAGE).iterdir()}
        committed = {path.name: path for path in (HERE / PACKAGE).iterdir() if "_pb2" in path.name and path.is_file()}
        differing = {
            name for name in fresh.keys() & committed.keys() if not filecmp.cmp(fresh[name], committed[name], False)
        }
        return sorted(differing | (fresh.keys() ^ committed.keys()))


def main() -> int:
    """Generate, or with `--check` exit 1 when something is stale."""
    if "--check" not in sys.argv[1:]:
        generate(HERE)
        return 0
    names = stale()
    for name in names:
        print(f"stale: {PACKAGE / name}: run `python proto/generate.py`")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
