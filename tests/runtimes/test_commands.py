"""`check`, `publish`, `test` and `release` as real processes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.connectors.mqtt import Mqtt
from fogline.runtimes.letter_file import Letter, LetterFile
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import OnErrorSpec, SegmentSpec, StageSpec
from support.mosquitto import Mosquitto, free_port
from support.mqtt_peer import Peer
from support.segments import COMMAND, DEADLINE_S, code_stage, command, mqtt_end, segment, wait_until, write_code

pytestmark = pytest.mark.e2e


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def written(folder: Path, spec: SegmentSpec) -> Path:
    path = folder / "spec.json"
    path.write_bytes(spec.to_bytes())
    return path


def relay(folder: Path, port: int, code: str = "def handler(data): return data") -> Path:
    stage = code_stage("a", write_code(folder / "code", code), "in", "out")
    sources, sinks = (mqtt_end("in", "a", port),), (mqtt_end("out", "a", port),)
    return written(folder, segment(stage, sources=sources, sinks=sinks))


def lines(output: bytes) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def checked(path: Path) -> tuple[int, dict[str, Any]]:
    done = command("check", path, "--artifacts", path.parent)
    (answer,) = lines(done.stdout)
    return done.returncode, answer


def test_check_says_yes_and_keeps_prints_out_of_its_answer(tmp_path: Path, broker: Mosquitto) -> None:
    path = relay(tmp_path, broker.port, "print('imported')\ndef handler(data): return data")
    assert checked(path) == (0, {"ok": True, "stage": "", "reason": "", "trace": ""})


def test_check_names_the_stage_and_the_place(tmp_path: Path) -> None:
    code, answer = checked(relay(tmp_path, 1, "x = {}\nx['y']\n"))
    assert (code, answer["ok"], answer["stage"]) == (65, False, "a")
    assert answer["reason"] == "main.py:2 failed at import: KeyError: 'y'"
    assert "KeyError" in answer["trace"]


def test_check_names_the_broker_that_is_away(tmp_path: Path) -> None:
    port = free_port()
    code, answer = checked(relay(tmp_path, port))
    assert (code, answer["stage"]) == (69, "a")
    assert answer["reason"] == f"broker 127.0.0.1:{port}: Connection refused"


def test_check_refuses_what_is_no_spec_or_names_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{}")
    assert checked(tmp_path / "spec.json")[0] == 64
    assert checked(tmp_path / "absent.json")[0] == 64
    stage = StageSpec("a", "cobol", (), ())
    code, answer = checked(written(tmp_path, segment(stage)))
    assert (code, answer["reason"]) == (
        64,
        "stage a: neither this release nor a package installed here has a framework 'cobol'",
    )


def test_check_finds_an_artifact_by_its_digest(tmp_path: Path) -> None:
    digest = "ab" * 32
    write_code(tmp_path / digest, "def handler(data): return data")
    stage = StageSpec("a", "code", ("in",), ("out",), artifact=digest)
    assert checked(written(tmp_path, segment(stage)))[0] == 0


def test_publish_confirms_what_a_session_collects(tmp_path: Path, broker: Mosquitto) -> None:
    path = relay(tmp_path, broker.port)
    with Peer(broker.port) as peer:
        peer.subscribe("t/in")
        done = command("publish", path, "--queue", "in", stdin=b'{"n": 1}\n\n[2]\n3')
        wait_until(lambda: len(peer.payloads) == 3, "all records")
        assert peer.payloads == [b'{"n": 1}', b"[2]", b"3"]
    assert done.returncode == 0
    assert lines(done.stdout)[-1] == {"confirmed": 3}


def test_publish_stops_at_the_first_bad_line_with_everything_before_it_confirmed(
    tmp_path: Path, broker: Mosquitto
) -> None:
    path = relay(tmp_path, broker.port)
    with Peer(broker.port) as peer:
        peer.subscribe("t/in")
        done = command("publish", path, "--queue", "in", stdin=b"1\n2\nthree\n4\n")
        wait_until(lambda: len(peer.payloads) == 2, "the good records")
    assert done.returncode == 65
    confirmed, error = lines(done.stdout)
    assert confirmed == {"confirmed": 2}
    assert error["error"].startswith("line 3 is not JSON: ")


def test_publish_answers_line_by_line(tmp_path: Path, broker: Mosquitto) -> None:
    argv = [*COMMAND, "publish", str(relay(tmp_path, broker.port)), "--queue", "out"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            process.stdin.write(b"%d\n" % number)
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == {"confirmed": number}
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0


def test_publish_to_a_queue_that_its_reader_has_not_bound_fails_with_the_reason(
    tmp_path: Path, broker: Mosquitto
) -> None:
    done = command("publish", relay(tmp_path, broker.port), "--queue", "in", stdin=b"1\n")
    assert done.returncode == 69
    assert lines(done.stdout) == [{"error": f"broker 127.0.0.1:{broker.port}: nobody is subscribed to t/in"}]


def test_publish_refuses_an_unknown_queue(tmp_path: Path) -> None:
    done = command("publish", relay(tmp_path, 1), "--queue", "other")
    assert done.returncode == 64
    assert lines(done.stdout) == [{"error": "the spec has no queue 'other'; it has in, out"}]


def test_release_ends_the_readers_session(tmp_path: Path, broker: Mosquitto) -> None:
    path, poller = relay(tmp_path, broker.port), Poller()
    source = Mqtt().source(mqtt_end("in", "a", broker.port), poller, 8)
    source.open()
    source.bind()
    source.close()
    waiting = b"".join(b"%d\n" % number for number in range(1500))
    assert command("publish", path, "--queue", "in", stdin=waiting).returncode == 0
    assert command("release", path, "--reader", "somebody-else").stdout == b""
    told = {"queue": "in", "reader": source.endpoint.client_id, "left": 1500}
    assert lines(command("release", path, "--reader", source.endpoint.client_id).stdout) == [told]
    assert command("release", path).stdout == b""
    source.open()
    source.bind()
    assert source.take(5, 0.2) == []
    source.close()
    poller.close()


def test_release_tells_which_broker_is_away(tmp_path: Path) -> None:
    done = command("release", relay(tmp_path, free_port()))
    assert done.returncode == 69
    assert b"queue in: broker 127.0.0.1" in done.stderr


def pipeline(folder: Path, first: str, second: str) -> Path:
    a, b = write_code(folder / "a", first), write_code(folder / "b", second)
    stages = (code_stage("a", a, "in", "mid"), code_stage("b", b, "mid", "out"), code_stage("c", b, "mid", "side"))
    return written(folder, segment(*stages))


def test_test_runs_the_whole_pipeline_without_a_broker_and_keeps_prints_apart(tmp_path: Path) -> None:
    path = pipeline(
        tmp_path,
        "def handler(data):\n print('seen', data)\n return data + 1 if data else None",
        "import os\nos.system('echo from a child')\ndef handler(data): return [data]",
    )
    done = command("test", path, stdin=b"1\n0\n\n2\n")
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout) == [[2], [2], [3], [3]]
    assert b"seen 1" in done.stderr
    assert b"from a child" in done.stderr


def test_test_shows_the_failing_record_and_the_users_own_frames(tmp_path: Path) -> None:
    path = pipeline(tmp_path, "def handler(data): return {'n': data}", "def handler(data):\n    return 1 / data['n']")
    done = command("test", path, stdin=b"1\n2\n0\n3\n")
    assert done.returncode == 70
    assert lines(done.stdout) == [1.0, 1.0, 0.5, 0.5, pytest.approx(1 / 3), pytest.approx(1 / 3)]
    error = done.stderr.decode()
    assert error.startswith('stage b failed on record 3: {"n":0}\nTraceback')
    assert "line 2, in handler" in error
    assert "fogline/runtimes" not in error


@pytest.mark.parametrize(
    ("then", "code", "said", "out"),
    [
        ("dead-letter", 70, b"2 records failed: they would be dead letters", [1.0, 0.5]),
        ("drop", 0, b"stage a failed on record 2: 0", [1.0, 0.5]),
        ("stop", 70, b"ZeroDivisionError", [1.0]),
    ],
)
def test_test_goes_on_after_a_failing_record_unless_on_error_says_stop(
    tmp_path: Path, then: str, code: int, said: bytes, out: list[float]
) -> None:
    code_folder = write_code(tmp_path / "code", "def handler(data): return 1 / data")
    stage = dataclasses.replace(code_stage("a", code_folder, "in", "out"), on_error=OnErrorSpec(0, then, "trash"))
    done = command("test", written(tmp_path, segment(stage)), stdin=b"1\n0\n{\n2\n")
    assert (done.returncode, lines(done.stdout)) == (code, out)
    assert said in done.stderr


def test_dead_letters_are_listed_shown_and_deleted(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    letter = Letter("seg", "stage", "reader", "in", "why", "trace", 4, "id", b'{"n":1}')
    LetterFile(path).keep([letter, dataclasses.replace(letter, payload=b"\xff"), letter])
    listed = lines(command("dead-letters", path, "list", "--limit", "2").stdout)
    assert [each["number"] for each in listed] == [3, 2]
    keys = {"number", "segment", "stage", "queue", "reason", "attempts", "first_at", "last_at", "size_bytes", "id"}
    assert keys <= set(listed[0])
    shown = lines(command("dead-letters", path, "show", "2", "1").stdout)
    assert [(each["payload"], each["encoding"]) for each in shown] == [('{"n":1}', "utf-8"), ("/w==", "base64")]
    assert shown[0]["trace"] == "trace"
    assert lines(command("dead-letters", path, "discard", "1", "9").stdout) == [{"discarded": 1}]
    assert lines(command("dead-letters", path, "purge").stdout) == [{"discarded": 2}]
    absent = command("dead-letters", path, "list")
    assert (absent.returncode, absent.stdout, path.exists()) == (0, b"", False)
    path.write_bytes(b"no database at all")
    refused = command("dead-letters", path, "list")
    assert refused.returncode == 69
    assert b"not a database" in refused.stderr


def test_test_tells_a_line_that_is_no_json_and_a_stage_that_cannot_be_loaded(tmp_path: Path) -> None:
    good = "def handler(data): return data"
    done = command("test", pipeline(tmp_path, good, good), stdin=b"{\n")
    assert done.returncode == 70
    assert b"stage a failed on record 1: {\nthe message is not JSON" in done.stderr
    done = command("test", pipeline(tmp_path, good, "def wrong(data): pass"))
    assert done.returncode == 65
    assert b"stage b: main.py has no function 'handler'; it has wrong" in done.stderr
