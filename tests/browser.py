"""A headless Chromium that is driven over its DevTools protocol, and a command that serves a page."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT = 400  # seconds of one step, on a machine with much else to do
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--no-first-run", "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
# Waits in the page until `condition` holds, so that a test polls nothing.
WAIT = """new Promise((resolve) => {
  const check = () => {
    let value = null;
    try { value = %s; } catch (error) {}
    value ? resolve(value) : setTimeout(check, 50);
  };
  check();
})"""
TEXTS = "[...document.querySelectorAll('div')].map(element => element.textContent)"


class Tab:
    """One page. `requests` has the address of every request that it made."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Network", "Runtime", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=TIMEOUT))
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        reply = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def wait(self, condition: str) -> Any:
        """The value of a JavaScript expression as soon as it is true."""
        return self.evaluate(WAIT % condition)

    def set_files(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def outside(self) -> list[str]:
        """The requests that did not go to this machine."""
        addresses = [urlsplit(url) for url in self.requests]
        return [
            url.geturl() for url in addresses if url.scheme in ("http", "https", "ws") and url.hostname != "127.0.0.1"
        ]


def loaded_frame(tab: Tab, selector: str) -> str:
    """The document of the page's frame as a JavaScript expression, when all of it is there and has the element."""
    frame = "document.querySelector('iframe').contentDocument"
    tab.wait(f"{frame}.readyState === 'complete' && {frame}.querySelector('{selector}')")
    return frame


def upload(tab: Tab, address: str, clip: Path) -> str:
    """Drop a clip on the page of `mesm-train app`; returns what it says when the prediction is shown or has failed."""
    tab.open(address)
    tab.wait("document.querySelector('input[type=file]')")
    tab.set_files("input[type=file]", clip)
    name = clip.name.replace(".", "[.]")
    return str(tab.wait(f"{TEXTS}.find(text => /^{name}: done|^{name} (is|could)/.test(text))"))


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A browser with one tab. Skips the test where there is no Chromium."""
    from websockets.sync.client import connect

    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium")
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "DevTools listening on" in line)
        drain(process.stderr)
        port = urlsplit(line.split()[-1]).port
        import urllib.request

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json") as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None, ping_interval=None, proxy=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def served(program: str, *arguments: object) -> Iterator[str]:
    """The address that `mesm-data` or `mesm-train` serves."""
    module = {"mesm-data": "data", "mesm-train": "train"}[program]
    command = [sys.executable, "-c", f"from mesm_cli.{module} import main; main()", *map(str, arguments), "--port", "0"]
    # NiceGUI does otherwise where it believes to be under test.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**outer, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        drain(process.stderr)
        yield address
    finally:
        process.terminate()
        process.wait()


def drain(stream: Any) -> None:
    """Read what a process says, so that it never waits for room."""
    threading.Thread(target=lambda: all(True for _ in stream), daemon=True).start()
