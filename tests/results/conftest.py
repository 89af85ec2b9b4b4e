"""A real browser for pages."""

import json
import os
import shutil
import subprocess

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """The page after its scripts ran, what the browser's console said, and the addresses that it asked a network for."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        assert not os.environ.get("CI"), "the build machine has to have chromium"
        pytest.skip("no chromium on PATH: the report is not looked at (Debian: apt-get install chromium)")

    def visit(path):
        profile = tmp_path_factory.mktemp("profile")
        log = profile / "net.json"
        command = [browser, "--headless", "--no-sandbox", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND"]
        quiet = ("gpu", "quic", "background-networking", "component-update", "sync", "default-apps", "extensions")
        command += [f"--disable-{name}" for name in quiet]
        command += [f"--user-data-dir={profile}", f"--log-net-log={log}", "--enable-logging=stderr"]
        command += ["--virtual-time-budget=15000", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        requests = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
        # the browser's own requests have no page as their initiator
        asked = {r["url"] for r in requests if r.get("initiator", "not an origin") != "not an origin"}
        return done.stdout, console, {url for url in asked if not url.startswith(("file:", "data:", "blob:"))}

    return visit
