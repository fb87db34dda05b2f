"""A headless Chromium, driven over a pair of pipes by the DevTools protocol.

The standard library is enough for what the tests of pages ask: load a page, look at it in some size
and colour scheme, evaluate expressions in it, and hear of every request, message and exception.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

#: A child puts the two pipes where Chromium looks for them, and becomes it.
_LAUNCH = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); \
os.execv(sys.argv[3], sys.argv[3:])"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

_FAULTS = Path(__file__).with_name("page_faults.js")
#: Code, number and text of keys.
_KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    " ": ("Space", 32, " "),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
}


def find_chromium() -> str | None:
    """Return the program, if there is one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Chromium:
    """One browser with one page.

    `messages` holds what went to the console, uncaught exceptions included, and `requests` the
    addresses that were asked for.
    """

    def __init__(self, program: str, profile: Path, *, seconds: float = 60.0) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self._seconds = seconds
        self._loaded = False
        self._next, self._rest = 1, b""
        (to_read, self._out), (self._in, to_write) = os.pipe(), os.pipe()
        # Above all numbers that the child gives out again.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (to_read, to_write)]
        command = [
            sys.executable, "-c", _LAUNCH, *map(str, high), program, "--headless", "--no-sandbox",
            "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            pass_fds=high,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )
        for fd in (to_read, to_write, *high):
            os.close(fd)
        targets = self._send("Target.getTargets", session=None)["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attach = {"targetId": page["targetId"], "flatten": True}
        self._session = self._send("Target.attachToTarget", attach, session=None)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._send("Browser.close", session=None)
            self._process.wait(timeout=20)
        except (OSError, EOFError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(
        self, address: str, *, width: int = 1400, height: int = 900, dark: bool = False
    ) -> None:
        """Load a page in a window of some size, and forget what was heard before."""
        self.look(width=width, height=height, dark=dark)
        self.messages.clear()
        self.requests.clear()
        self._loaded = False
        self.send("Page.navigate", {"url": address})
        deadline = time.monotonic() + self._seconds
        while not self._loaded:
            self._hear(deadline)

    def look(self, *, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """Change the window's size and the colour scheme that its reader prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", {"features": [scheme]})

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page, as JSON has it."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = self.send("Runtime.evaluate", asked)
        if "exceptionDetails" in found:
            raise ValueError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def faults(self) -> list[str]:
        """Return what is wrong with the page for its readers, as WCAG 2.1 has it at level AA.

        Nothing is wider than the window, every image is there and said in words, headings and
        tables have their order and heads, links lead somewhere, text stands out, and what can be
        used or scrolled is reached by the keyboard, has a name and shows that it is reached. What
        the page said to the console is wrong, too.
        """
        self.press("Tab")  # marks of focus are for readers who use the keyboard
        found: list[str] = self.evaluate(_FAULTS.read_text(encoding="utf-8"))
        return found + self.messages

    def press(self, key: str) -> None:
        """Press and release a key by its name: Tab, Enter, ArrowRight or a space."""
        name, number, text = _KEYS[key]
        what: dict[str, Any] = {"key": key, "code": name, "windowsVirtualKeyCode": number}
        self.send("Input.dispatchKeyEvent", {"type": "keyDown", "text": text, **what})
        self.send("Input.dispatchKeyEvent", {"type": "keyUp", **what})

    def send(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command about the page and return its answer."""
        return self._send(method, parameters, session=self._session)

    def _send(
        self, method: str, parameters: dict[str, Any] | None = None, *, session: str | None
    ) -> dict[str, Any]:
        number = self._next
        self._next += 1
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + self._seconds
        while True:
            answer = self._hear(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise ValueError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _hear(self, deadline: float) -> dict[str, Any]:
        """Return the next message, and note what the page says."""
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium said nothing within {self._seconds:g} s")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise EOFError("Chromium has gone")
            self._rest += data
        first, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        told = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.messages.append(json.dumps(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.messages.append(json.dumps(told["args"]))
            case "Log.entryAdded":
                self.messages.append(told["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
        return message
