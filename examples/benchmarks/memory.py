"""How much memory this process holds, and at most while something runs (Linux, which counts it in /proc)."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

KINDS = {"RssAnon": "of its own", "VmRSS": "resident, the file's pages included"}


def memory(kind: str = "VmRSS") -> float:
    """MiB that are resident, or of one kind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def peaks_of(kinds: Iterable[str], call: Callable[[], Any]) -> dict[str, float]:
    """The most memory of some kinds while something is called."""
    peaks, done = dict.fromkeys(kinds, 0.0), threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            for kind in peaks:
                peaks[kind] = max(peaks[kind], memory(kind))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        call()
    finally:
        done.set()
        thread.join()
    return peaks
