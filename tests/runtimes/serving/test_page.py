"""The page at `/` in a real browser: a record is typed, its answer or the reason why there is none is shown."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
import trustme
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from fogline.runtimes.spec import SECRETS_VARIABLE, TLS_VARIABLE
from support.certificates import certify
from support.served import Served, code_served, served, serving_all, sklearn_stage

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium: run tests/install-real-parts.sh"),
]

TOKEN = "s3cret-of-callers"
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """A model that anybody may call, and code that wants a token and has a certificate."""
    folder = tmp_path_factory.mktemp("page")
    secret = folder / "secrets" / "callers"
    secret.parent.mkdir()
    secret.touch(mode=0o600)
    secret.write_text(TOKEN)
    certify(folder / "tls", trustme.CA(), HOST)
    specs = {
        "open": served(sklearn_stage(folder / "model", input=["a", "b", "c"])),
        "secured": served(code_served(folder / "code"), token_secret="callers", tls_name=HOST),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRETS_VARIABLE, str(secret.parent))
        patch.setenv(TLS_VARIABLE, str(folder / "tls"))
        with serving_all(folder / "work", specs) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """As root, as in most containers, it starts only without its sandbox."""
    flags = ["--no-sandbox", "--disable-dev-shm-usage"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        try:
            yield started
        finally:
            started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Without what others have left; the authority of the tests is nobody's."""
    made = browser.new_context(ignore_https_errors=True)
    try:
        yield made
    finally:
        made.close()


def opened(context: BrowserContext, url: str) -> tuple[Page, list[str]]:
    """The page, and all that the browser complains of from then on."""
    page, complaints = context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    page.goto(url)
    return page, complaints


def sent(page: Page, record: str) -> None:
    page.get_by_label("Record").fill(record)
    page.get_by_role("button", name="Send").click()


def test_a_record_is_typed_and_answered(context: BrowserContext, endpoints: dict[str, Served]) -> None:
    page, complaints = opened(context, f"http://{HOST}:{endpoints['open'].port}/")
    expect(page.get_by_role("heading")).to_have_text("pipeline")
    assert page.get_by_label("Token").count() == 0
    page.get_by_role("button", name="Send").click()  # the example that it came with
    expect(page.get_by_role("status")).to_have_text("0")
    sent(page, '[{"a": 9, "b": 9, "c": 9}, {"a": -9, "b": -9, "c": -9}]')
    expect(page.get_by_role("status")).to_have_text("[1,0]")
    expect(page.get_by_role("status")).not_to_have_class("wrong")
    assert complaints == []


def test_a_bad_record_shows_the_sentence(context: BrowserContext, endpoints: dict[str, Served]) -> None:
    page, complaints = opened(context, f"http://{HOST}:{endpoints['open'].port}/")
    sent(page, '{"a": 9, "b": 9}')
    expect(page.get_by_role("status")).to_contain_text("'c' is missing")
    expect(page.get_by_role("status")).to_have_class("wrong")
    sent(page, "{")
    expect(page.get_by_role("status")).to_contain_text("is not JSON: ")
    assert complaints == []


def test_a_secured_endpoint_asks_for_the_token(context: BrowserContext, endpoints: dict[str, Served]) -> None:
    page, complaints = opened(context, f"https://{HOST}:{endpoints['secured'].port}/")
    sent(page, "1")
    expect(page.get_by_role("status")).to_have_text("a token is needed: send Authorization: Bearer TOKEN")
    page.get_by_label("Token").fill(TOKEN)
    sent(page, '"none"')
    expect(page.get_by_role("status")).to_have_text("(filtered: no answer)")
    sent(page, '"<b>&"')
    expect(page.get_by_role("status")).to_have_text('{"got":"<b>&"}')
    assert complaints == []
