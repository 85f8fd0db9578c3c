"""Images made from a build context that a submitter wrote down: what is refused, what is needed, how fast it is."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from fogline.agent.containers import Containers
from fogline.agent.core.desired import Assignment
from fogline.agent.drivers import in_memory
from fogline.agent.drivers.docker_engine import Engine
from fogline.agent.host.artifacts import ArtifactCache
from fogline.agent.host.environments import Environments, node_target
from fogline.agent.host.workspace import Workspace
from fogline.agent.needs import needs
from fogline.runtimes.container.context import Context, bundle_of, written_down
from fogline.runtimes.spec import SegmentSpec, digest
from fogline.wire.terms import ErrorKind, FoglineError, Wanted
from support.agent_builders import a_spec
from support.agent_node import unreachable
from support.containers import needs_engine
from support.own_engine import BASE


class Node:
    """A state folder whose artifacts were laid there by hand; whatever else is asked for cannot be had."""

    def __init__(self, state_dir: Path) -> None:
        self.workspace = Workspace(state_dir / "copies" / "w")
        self.workspace.path.mkdir(parents=True)
        self.artifacts = ArtifactCache(state_dir / "artifacts", unreachable)
        self.artifacts.folder.mkdir()
        self.environments = Environments(state_dir, self.artifacts, source="store")
        self.containers = Containers(state_dir, self.environments, self.artifacts)
        self.told: list[str] = []

    def holds(self, content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        (self.artifacts.folder / name).write_bytes(content)
        return name

    def spec(self, base: str = BASE, **changes: Any) -> SegmentSpec:
        """One without stages, whose context is here with all that it names."""
        target = {"fogline-lock": 1, "target": node_target(), "wheels": []}
        spec = replace(a_spec(), stages=(), container=True, lock=self.holds(json.dumps(target).encode()), **changes)
        bundle = bundle_of(spec)
        context = written_down(spec, base, "0.1.0", bundle)
        with tarfile.open(fileobj=BytesIO(bundle)) as tar:
            tar.extractall(self.artifacts.folder / context.bundle, filter="data")
        return replace(spec, context=self.holds(context.to_bytes()))

    def make(self, spec: SegmentSpec) -> str:
        asyncio.run(self.containers.ensure(spec, self.workspace, self.told.append))
        return (self.workspace.path / "image").read_text()


def wish(spec: SegmentSpec) -> Assignment:
    return Assignment(spec.assignment_id, digest(spec.to_bytes()), spec.to_bytes(), Wanted.RUNNING)


def refusal(node: Node, spec: SegmentSpec) -> FoglineError:
    with pytest.raises(FoglineError) as caught:
        node.make(spec)
    assert not (node.workspace.path / "image").exists()
    return caught.value


def test_what_comes_without_a_context(tmp_path: Path) -> None:
    node = Node(tmp_path)
    why = refusal(node, replace(node.spec(), context=""))
    assert why.sentence.startswith("it came without a build context for its container: submit it again")


def test_what_is_no_context(tmp_path: Path) -> None:
    node = Node(tmp_path)
    why = refusal(node, replace(node.spec(), context=node.holds(b"{}")))
    assert (why.kind, why.sentence.partition(":")[0]) == (ErrorKind.CORRUPT, "what should be a build context is none")
    newer = (
        Context(BASE, "", "", "a" * 64, "b" * 64, ()).to_bytes().replace(b'"fogline-context":1', b'"fogline-context":2')
    )
    assert "version 2 is newer than 1" in refusal(node, replace(node.spec(), context=node.holds(newer))).sentence


def test_what_a_context_names_stays_as_long_as_it_is_wanted(tmp_path: Path) -> None:
    node = Node(tmp_path)
    spec = node.spec()
    bundle = hashlib.sha256(bundle_of(spec)).hexdigest()
    assert needs([wish(spec)], node.environments).artifacts == {spec.context, bundle, spec.lock}
    (node.artifacts.folder / spec.context).unlink()
    assert needs([wish(spec)], node.environments).artifacts == {spec.context, spec.lock}


@needs_engine
@pytest.mark.e2e
@pytest.mark.containers
def test_a_base_image_that_is_not_here(tmp_path: Path) -> None:
    node = Node(tmp_path)
    why = refusal(node, node.spec(base="fogline/absent:3.11"))
    assert why.sentence == (
        "the image fogline/absent:3.11, which others are built on, is not on this node: docker load, import or pull it "
        "here, or name another with --base-image"
    )


@needs_engine
@pytest.mark.e2e
@pytest.mark.containers
def test_it_is_built_once_and_a_second_segment_shares_its_environment(tmp_path: Path) -> None:
    node = Node(tmp_path)
    spec = node.spec()
    image = node.make(spec)
    try:
        assert [line for line in node.told if line.startswith("building its image, step ")]
        node.told.clear()
        assert node.make(spec) == image
        assert not [line for line in node.told if "building its image" in line]
        other = node.make(node.spec(segment="other"))
        assert other != image
        steps = {line.rpartition(" ")[2] for line in node.told if line.startswith("building its image, step ")}
        assert len(steps) == 1, "its environment was there"
    finally:
        node.workspace.path.joinpath("image").unlink()
        asyncio.run(node.containers.clear(locks=()))


@needs_engine
@pytest.mark.e2e
@pytest.mark.containers
def test_images_are_removed_while_no_agent_of_this_machine_builds(tmp_path: Path) -> None:
    node = Node(tmp_path)
    image = node.make(node.spec())
    node.workspace.path.joinpath("image").unlink()

    async def scene() -> None:
        with (in_memory.home() / "images.lock").open("ab") as building:
            fcntl.flock(building, fcntl.LOCK_SH)
            clearing = asyncio.create_task(node.containers.clear(locks=()))
            await asyncio.wait({clearing}, timeout=0.5)
            assert not clearing.done()
            assert Engine().image(image)
        await asyncio.wait_for(clearing, 20)
        assert not Engine().image(image)

    asyncio.run(scene())
