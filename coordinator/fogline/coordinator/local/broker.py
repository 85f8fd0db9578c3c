"""An MQTT broker of our own: mosquitto where the machine has it, else amqtt with its weaknesses told."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from fogline.coordinator.local.children import Children, answers
from fogline.wire.terms import ErrorKind, FoglineError

# No queue limits (stock mosquitto silently keeps 1000 messages of an offline reader), persistence with a
# timed save; autosave_on_changes would stall it.
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 30
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
set_tcp_nodelay true
user root
"""

_AMQTT = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


def start_broker(children: Children, folder: Path, port: int) -> str:
    """Start a broker on loopback:`port` with its files in `folder`; returns what to tell the user.

    Raises FoglineError when the machine has neither broker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if mosquitto:
        config = folder / "mosquitto.conf"
        config.write_text(_MOSQUITTO.format(port=port, folder=folder))
        children.start("mosquitto", [mosquitto, "-c", str(config)])
        note = f"started mosquitto on 127.0.0.1:{port}"
    elif find_spec("amqtt"):
        config = folder / "amqtt.yaml"
        config.write_text(_AMQTT.format(port=port))
        children.start("amqtt", [str(Path(sys.executable).with_name("amqtt")), "-c", str(config)])
        note = (
            f"started amqtt on 127.0.0.1:{port}, since this machine has no mosquitto: it speaks MQTT 3.1.1 only "
            "and may lose what a publisher sent just before it left"
        )
    else:
        sentence = f"no broker answers on port {port} and this machine has none to start: install mosquitto"
        raise FoglineError(ErrorKind.UNREACHABLE, sentence)
    children.wait_until(f"the broker on port {port}", lambda: answers("127.0.0.1", port))
    return note
