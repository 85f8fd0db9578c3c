"""The page at `/`: what this is, and a record to try. One document, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

from fogline.runtimes.serving.http import Reply

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; color: #222 }
textarea, pre, input { font: 14px/1.4 ui-monospace, monospace; width: 100%; box-sizing: border-box; padding: .6rem;
  border: 1px solid #bbb; border-radius: 4px }
pre { background: #f4f4f4; min-height: 3rem; white-space: pre-wrap; overflow-wrap: anywhere }
button { font: inherit; padding: .4rem 1.2rem; margin: .6rem 0 }
.wrong { border-color: #b00; color: #b00 }
"""
_SCRIPT = """
const by = id => document.getElementById(id), out = by("answer");
by("form").addEventListener("submit", async event => {
  event.preventDefault();
  const headers = {"Content-Type": "application/json"}, token = by("token");
  if (token && token.value) headers.Authorization = "Bearer " + token.value;
  out.textContent = "..."; out.className = "";
  try {
    const reply = await fetch("predict", {method: "POST", headers, body: by("record").value});
    const text = await reply.text();
    out.textContent = reply.status == 204 ? "(filtered: no answer)" : reply.ok ? text : JSON.parse(text).error;
    out.className = reply.ok ? "" : "wrong";
  } catch (error) { out.textContent = error.message; out.className = "wrong"; }
});
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title><style>{style}</style></head>
<body><h1>{name}</h1>
<p>A pipeline in API mode{version}. Its stages: {stages}. Type a record, or a list of records, as JSON.</p>
<form id="form"><label for="record">Record</label><textarea id="record" rows="8">{example}</textarea>
{token}<button>Send</button></form>
<p>Answer</p><pre id="answer" role="status"></pre>
<p><a href="openapi.json">openapi.json</a> · <a href="metrics">metrics</a> · <a href="health">health</a> ·
<a href="v2/models/{name}">model</a></p>
<script>{script}</script></body></html>
"""
_FIELD = '<label for="token">Token</label><input id="token" type="password" autocomplete="off">'


def page(name: str, revision: str, stages: tuple[str, ...], example: Any, *, secured: bool) -> Reply:
    """The whole document; it may load and do nothing but what stands in it."""
    text = _PAGE.format(
        name=html.escape(name),
        version=html.escape(f", version {revision}" if revision else ""),
        stages=html.escape(", ".join(stages)),
        example=html.escape(json.dumps(example)),
        token=_FIELD if secured else "",
        style=_STYLE,
        script=_SCRIPT,
    )
    policy = f"default-src 'none'; connect-src 'self'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}"
    headers = ((b"content-security-policy", policy.encode()), (b"x-content-type-options", b"nosniff"))
    return Reply(200, text.encode(), b"text/html; charset=utf-8", headers)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
