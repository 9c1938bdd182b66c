"""Headless Chromium over its debugging pipe: open a page, press and click, read what it shows and complains of."""

import base64
import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
# Chromium reads its orders from descriptor 3 and answers on 4, so a process that has them so becomes Chromium.
STARTER = """
import fcntl, os, sys
orders, answers = (fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 10) for fd in sys.argv[1:3])
os.dup2(orders, 3), os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One open page. `errors` and `requests` hold all that it threw, logged and asked for since it was opened."""

    def __init__(self, process, reader, writer):
        self.process, self.reader, self.writer = process, reader, writer
        self.number, self.buffer, self.session = 0, b"", None
        self.errors, self.requests, self.loaded = [], [], False
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(reader, selectors.EVENT_READ)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        number = self.number
        while (answer := self.receive()).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def receive(self, patience=60.0):
        while b"\0" not in self.buffer:
            if not self.waiting.select(patience):
                raise TimeoutError("Chromium does not answer.")
            self.buffer += os.read(self.reader, 1 << 20)
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(json.dumps(params["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True
        return message

    def open(self, url):
        self.loaded = False
        self.call("Page.navigate", url=url)
        while not self.loaded:
            self.receive()

    def read(self, expression):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]))
        return result["result"].get("value")

    def texts(self, selector):
        return self.read(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")

    def digits(self, selector):
        """All digits of the numbers shown in an element, as floats."""
        found = self.read(f"[...document.querySelectorAll({json.dumps(selector + ' .n')})].map((e) => e.title)")
        return [number(text) for text in found]

    def press(self, key, **more):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, **more)

    def click(self, selector):
        """A real click, at the middle of what the selector finds."""
        x, y = self.read(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, width, height, dark=False, calm=False, mobile=False):
        """The window's size and the reader's preferences."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.read("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def picture(self, path, whole=False):
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(answer["data"]))


def number(text):
    """A number as the page writes it, read back."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    plain = text.replace("−", "-").replace("∞", "inf").replace("·10", "e")
    digits, _, exponent = plain.partition("e")
    return float(digits + ("e" + exponent.translate(raised) if exponent else ""))


@contextlib.contextmanager
def chromium():
    """A browser of its own, with an empty profile, closed at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        ours, theirs = os.pipe(), os.pipe()  # what we read from, what it reads from
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(theirs[0]), str(ours[1]), *command],
            pass_fds=(theirs[0], ours[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        os.close(theirs[0])
        os.close(ours[1])
        try:
            page = Page(process, ours[0], theirs[1])
            yield page
            page.waiting.close()
        finally:
            with contextlib.suppress(OSError):
                message = {"id": 0, "method": "Browser.close"}
                os.write(theirs[1], json.dumps(message).encode() + b"\0")
            for _ in range(50):
                if process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                process.kill()
            process.wait()
            os.close(ours[0])
            os.close(theirs[1])
