"""Code from real repositories on this machine: which commit, which files, and what is said when it is not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.artifacts import git_process, repository
from fogline.coordinator.artifacts.bundle import bundle_folder
from fogline.coordinator.artifacts.git import Checkout, check_out
from fogline.coordinator.artifacts.git_tree import parsed, write_out
from fogline.coordinator.artifacts.resolve import Resolved, resolve
from fogline.coordinator.padl.addresses import GitAddress
from fogline.coordinator.padl.parse import load
from fogline.wire.terms import FoglineError
from support.padl_files import written
from support.repository import HANDLER, Repository
from support.segments import wait_until

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def plant(tmp_path: Path) -> Repository:
    found = Repository(tmp_path / "plant")
    found.commit({"main.py": HANDLER.format(number=1), "scale/table.txt": "1\n2\n"})
    return found


def resolved(plant: Repository, missing: Any = "error", **props: Any) -> Resolved:
    stage = {"type": "code", "props": {"path": str(plant.bare), **props}, "queues": {"input": "a", "output": "b"}}
    queues = {name: {"connector": "mqtt", "props": {"server": "x", "topic": name}} for name in "ab"}
    document = {"version": "1.0", "id": "p", "pipeline": {"scale": stage}, "queues": queues}
    return resolve(load([written(plant.folder.parent, document)]), missing)


def said(plant: Repository, **props: Any) -> str:
    problems = [each for each in resolved(plant, **props).problems if each.severity == "error"]
    assert len(problems) == 1
    assert problems[0].line
    return f"{problems[0].pointer} {problems[0].message} {problems[0].hint}"


def local(plant: Repository) -> GitAddress:
    return GitAddress(str(plant.bare), "file")


def test_the_default_branch_is_taken_at_its_last_commit(plant: Repository) -> None:
    found = resolved(plant)
    assert found.problems == []
    assert found.commits == {"scale": plant.git("rev-parse", "HEAD")}
    assert (found.paths["scale"] / "main.py").read_text() == HANDLER.format(number=1)
    assert found.artifacts["scale"] == hashlib.sha256(bundle_folder(found.paths["scale"])).hexdigest()
    second = plant.commit({"main.py": HANDLER.format(number=2)})
    again = resolved(plant)
    assert again.commits == {"scale": second}
    assert again.artifacts != found.artifacts
    assert resolved(plant).artifacts == again.artifacts


def test_a_branch_a_tag_and_a_commit_are_named_by_ref(plant: Repository) -> None:
    first = plant.git("rev-parse", "HEAD")
    plant.git("tag", "--annotate", "v1", "--message", "one")
    plant.git("checkout", "--quiet", "-b", "trial/north")
    north = plant.commit({"main.py": HANDLER.format(number=2)}, "HEAD", "v1")
    for ref, commit in (("trial/north", north), ("v1", first), ("main", first), (north, north), (north[:9], north)):
        assert resolved(plant, ref=ref).commits == {"scale": commit}, ref


def test_a_pinned_commit_wins_over_a_moved_branch_and_needs_no_repository_any_more(plant: Repository) -> None:
    first = plant.git("rev-parse", "HEAD")
    before = resolved(plant, ref="main")
    plant.commit({"main.py": HANDLER.format(number=2)})
    shutil.rmtree(plant.bare / "objects")
    (plant.bare / "objects").mkdir()
    assert resolved(plant, ref="main", commit=first).artifacts == before.artifacts


def test_a_commit_that_a_forced_push_took_off_every_branch_is_still_had(plant: Repository) -> None:
    lost = plant.commit({"main.py": HANDLER.format(number=2)})
    plant.git("reset", "--quiet", "--hard", "HEAD~1")
    plant.commit({"main.py": HANDLER.format(number=3)})
    assert resolved(plant, commit=lost).commits == {"scale": lost}


def test_a_folder_stays_a_folder_unless_a_version_is_asked_for(plant: Repository) -> None:
    (plant.folder / "main.py").write_text(HANDLER.format(number=9))
    as_it_is = resolved(plant, path=str(plant.folder))
    assert (as_it_is.commits, as_it_is.paths["scale"]) == ({}, plant.folder)
    at_main = resolved(plant, path=str(plant.folder), ref="main")
    assert (at_main.paths["scale"] / "main.py").read_text() == HANDLER.format(number=1)
    (plant.folder.parent / "bare").mkdir()
    assert "is no git repository, so it has no 'ref'" in said(plant, path="bare", ref="main")


def test_the_document_alone_is_judged_without_looking_into_repositories(plant: Repository, cache: Path) -> None:
    assert resolved(plant, "warning", ref="nowhere") == Resolved()
    assert resolved(plant, "warning", path="git@nowhere.invalid:a/b.git") == Resolved()
    assert not cache.exists()


def test_files_are_those_of_the_commit_byte_by_byte_whatever_umask_and_attributes_say(
    plant: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.git("config", "core.autocrlf", "false")
    (plant.folder / "run.sh").write_text("#!/bin/sh\n")
    (plant.folder / "run.sh").chmod(0o775)
    attributes = "*.txt text eol=crlf\n*.py export-subst ident\nsecret.py export-ignore\n*.bin filter=lfs\n"
    files = {".gitattributes": attributes, "a.py": "# $Format:%H$ $Id$\n", "secret.py": "S = 1\n", "m.bin": "\0raw"}
    plant.commit(files)
    before = os.umask(0o077)
    try:
        first = resolved(plant)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
        os.umask(0)
        second = resolved(plant)
    finally:
        os.umask(before)
    assert first.artifacts == second.artifacts
    assert first.paths != second.paths
    folder = second.paths["scale"]
    assert (folder / "a.py").read_text() == files["a.py"]
    assert (folder / "m.bin").read_text() == "\0raw"
    assert (folder / "secret.py").is_file()
    assert bundle_folder(folder) == bundle_folder(plant.folder)
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755


def test_what_code_left_among_its_files_is_gone_the_next_time(plant: Repository) -> None:
    first = resolved(plant)
    folder = first.paths["scale"]
    (folder / "__pycache__").mkdir()
    kept = (folder / "main.py").stat().st_ino
    assert resolved(plant).artifacts == first.artifacts
    assert (folder / "main.py").stat().st_ino == kept
    (folder / "state.json").write_text("{}")
    assert resolved(plant).artifacts == first.artifacts
    (folder / "main.py").write_text("def handler(data): return 'mine'\n")
    assert resolved(plant).artifacts == first.artifacts
    assert not (folder / "state.json").exists()


def test_what_is_not_there_is_told_with_what_is(plant: Repository, tmp_path: Path) -> None:
    first = plant.git("rev-parse", "HEAD")
    assert "/ref" not in said(plant, ref="mian")
    assert "has no branch, tag or commit 'mian'; did you mean 'main'?; it has main" in said(plant, ref="mian")
    assert f"has no commit {'1' * 40}" in said(plant, commit="1" * 40)
    assert "has no branch, tag or commit '1111111'" in said(plant, ref="1" * 7)
    missing = said(plant, entrypoint="mian.py")
    assert missing.startswith("/pipeline/scale/props/entrypoint commit " + first[:12])
    assert "has no file mian.py; did you mean 'main.py'?; it has main.py, scale" in missing
    assert "has no function or class 'run'" in said(plant, function="run")
    shutil.rmtree(plant.bare)
    Repository(tmp_path / "empty")
    assert "has no default branch, or is empty" in said(plant, path=str(tmp_path / "empty.git"))
    assert "there is no folder" in said(plant)
    assert "there is no folder" in said(plant, ref="main")


def test_links_are_refused_and_submodules_and_lfs_are_told(plant: Repository) -> None:
    other = Repository(plant.folder.parent / "other")
    other.commit({"code.py": "X = 1\n"})
    plant.git("submodule", "--quiet", "add", str(other.bare), "libs/shared")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    plant.commit({"weights.bin": pointer})
    found = resolved(plant)
    assert [(each.severity, each.message.partition(",")[0]) for each in found.problems] == [
        ("warning", "'libs/shared' is a submodule"),
        ("warning", "'weights.bin' is in Git LFS"),
    ]
    assert set(found.artifacts) == {"scale"}
    assert "is in the submodule 'libs/shared' of" in said(plant, entrypoint="libs/shared/code.py")
    plant.commit({"main.py": "from shared import X\ndef handler(data): return X\n"})
    assert "main.py imports the submodule 'libs/shared'" in said(plant)
    (plant.folder / "link.py").symlink_to("/etc/passwd")
    plant.commit()
    assert "'link.py' in the repository is a symbolic link" in said(plant)


def test_what_takes_too_long_is_ended_with_all_its_children(
    plant: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "ssh"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(slow))
    monkeypatch.setattr(git_process, "FETCH_S", 1.0)
    with pytest.raises(FoglineError, match="git did not finish within 1 s"):
        check_out(GitAddress("x.invalid:a.git", "ssh"))
    running = Path("/proc", (tmp_path / "pid").read_text().strip(), "cmdline")
    wait_until(lambda: not running.exists() or not running.read_bytes(), "the child is gone, or nobody's yet to reap")


def test_the_place_where_git_was_called_from_means_nothing(plant: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plant.git("rev-parse", "HEAD")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "/nowhere")
    assert check_out(local(plant)).commit == expected


@pytest.mark.parametrize("lost", ["objects", "refs", "HEAD", ""])
def test_a_copy_of_which_something_is_lost_is_made_again(plant: Repository, cache: Path, lost: str) -> None:
    before = resolved(plant)
    (mirror,) = cache.rglob("mirror.git")
    damaged = mirror / lost
    if damaged.is_dir():
        shutil.rmtree(damaged)
    else:
        damaged.write_text("?")
    assert resolved(plant).artifacts == before.artifacts


def test_a_copy_that_cannot_be_read_is_named(plant: Repository, cache: Path) -> None:
    resolved(plant)
    commit = plant.git("rev-parse", "HEAD")
    (mirror,) = cache.rglob("mirror.git")
    tree = plant.git("rev-parse", "HEAD^{tree}")
    shutil.rmtree(cache / mirror.parent / "trees")
    (mirror / "objects" / tree[:2] / tree[2:]).unlink()
    words = said(plant, commit=commit)
    assert f"git ls-tree failed in {mirror}, which is a copy and may be removed: " in words


def test_what_the_users_environment_configures_counts(plant: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a build server passes on who it is."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{plant.bare.parent}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "/elsewhere/")
    assert check_out(GitAddress("/elsewhere/plant.git", "file")).commit == plant.git("rev-parse", "HEAD")


def test_stages_that_name_the_same_are_asked_for_once(plant: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    props = {"path": str(plant.bare), "ref": "main"}
    stages = {name: {"type": "code", "props": props, "queues": {"input": name, "output": name}} for name in "ab"}
    loaded = load([written(plant.folder.parent, {"version": "1.0", "id": "p", "pipeline": stages, "queues": {}})])
    asked = list[str]()

    def counted(address: GitAddress, ref: str, commit: str) -> Checkout:
        asked.append(ref)
        return check_out(address, ref, commit)

    monkeypatch.setattr(repository, "check_out", counted)
    found = resolve(loaded)
    assert found.commits == dict.fromkeys("ab", plant.git("rev-parse", "HEAD"))
    assert asked == ["main"]


def test_a_shallow_clone_is_a_repository_too(plant: Repository) -> None:
    plant.commit({"main.py": HANDLER.format(number=2)})
    plant.git("clone", "--quiet", "--depth", "1", f"file://{plant.bare}", str(plant.folder.parent / "shallow"))
    found = resolved(plant, path="shallow", ref="main")
    assert found.commits == {"scale": plant.git("rev-parse", "HEAD")}


def test_branches_of_any_alphabet(plant: Repository) -> None:
    plant.git("branch", "größe/ö")
    plant.commit({}, "größe/ö")
    assert resolved(plant, ref="größe/ö").commits == {"scale": plant.git("rev-parse", "größe/ö")}
    assert "did you mean 'größe/ö'" in said(plant, ref="größe/o")


def test_a_few_objects_that_stand_for_a_billion_files_are_refused(plant: Repository) -> None:
    """Ten levels of ten times the same folder."""
    plant.git("checkout", "--quiet", "-b", "bomb")
    kind, name = "100644 blob", plant.git("hash-object", "-w", "main.py")
    for _ in range(10):
        listing = plant.folder.parent / "listing"
        listing.write_text("".join(f"{kind} {name}\tentry-{number}\n" for number in range(10)))
        with listing.open() as given:
            made = subprocess.run(["git", "mktree"], cwd=plant.folder, stdin=given, capture_output=True, check=True)
        kind, name = "040000 tree", made.stdout.decode().strip()
    bomb = plant.git("commit-tree", "-m", "bomb", name)
    plant.git("push", "--quiet", "origin", f"{bomb}:refs/heads/bomb")
    assert "the repository holds more than the code of a stage" in said(plant, ref="bomb")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//x", "./x", "..", "\x1b[2J/.."])
def test_a_tree_that_leads_out_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(FoglineError, match="which leads out of it") as caught:
        parsed(f"100644 blob {'1' * 40}       4\t{name}\0".encode())
    assert caught.value.sentence.isprintable()


def test_a_tree_that_holds_a_name_twice_is_refused_and_git_folders_are_left_out(tmp_path: Path) -> None:
    row = f"100644 blob {'1' * 40}       4\t"
    tree = parsed(f"{row}a\0{row}a\0{row}.git/config\0{row}b/.git/hooks/x\0".encode())
    assert [file.name for file in tree.files] == ["a", "a"]
    with pytest.raises(FileExistsError):
        write_out(tmp_path / "out", tree, b"1 blob 4\nfour\n1 blob 4\nfour\n")
    assert not (tmp_path / "out").exists()


def test_limits_are_judged_before_anything_is_written() -> None:
    large = f"100644 blob {'1' * 40} {65 * 2**20}\tmodel.bin\0"
    with pytest.raises(FoglineError, match=r"larger than 64 MiB at 'model\.bin'"):
        parsed(large.encode())
    many = "".join(f"100644 blob {'1' * 40} 1\t{number}\0" for number in range(10_001))
    with pytest.raises(FoglineError, match="more than 10000 files"):
        parsed(many.encode())
