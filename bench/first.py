"""``python -m bench gpu --first FOLDER``: all that a first hour on a GPU should do, in 8 minutes.

`first.toml` has the steps. Each is a process group that is ended at its limit. What it prints goes
to FOLDER/log.txt as it comes; what became of each, and the verdict, are written after it, so that a
run that is cut loses nothing. There are eight files at most, far smaller than 16 MiB.
``--rehearse`` runs the same steps on the host.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import importlib.util
import json
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from . import common, verdict
from .common import ROOT, BenchError, toml
from .verdict import Outcome

STAND_IN = ROOT / "tests" / "support" / "stand_in"
LOG_BYTES = 1 << 20  # that a step may write to the log; of more, the last TAIL lines are kept
TAIL, SHOWN = 400, 12  # lines; the second of each step are printed
KILL: signal.Signals = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none
GRACE = 4.0  # seconds between an interruption, at which pytest sums up, and a kill
MOST_PROCESSES = 12  # of tests: each has a context on the GPU


def steps() -> list[dict[str, Any]]:
    """Return the steps of `first.toml`."""
    found: list[dict[str, Any]] = toml("first")["step"]
    return found


def command_of(step: dict[str, Any], folder: Path, rehearse: bool) -> list[str]:
    """Return the command of a step."""
    text: str = step["command"].replace("{tests}", toml("first")["tests"])
    processes = min(MOST_PROCESSES, common.usable_cpus())
    parallel = f"-n {processes} --dist worksteal" if importlib.util.find_spec("xdist") else ""
    text = text.replace("{parallel}", parallel)
    words = shlex.split(text) + shlex.split(step.get("rehearsal", "") if rehearse else "")
    return [word.format(python=sys.executable, out=folder) for word in words]


def environment_of(step: dict[str, Any], folder: Path, rehearse: bool) -> dict[str, str]:
    """Return the environment of a step: nothing takes the GPU's memory for itself."""
    paths = [str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {**os.environ, "PYTHONUNBUFFERED": "1", "FASTDROP_FIRST_RUN": str(folder)}
    found |= {"FASTDROP_FIRST_STEP": step["name"], "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if rehearse:
        found["FASTDROP_REHEARSAL"] = "1"
        paths[:0] = [str(STAND_IN)] if step.get("stand_in") else []
    return {**found, "PYTHONPATH": os.pathsep.join(paths)}


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process and to all that it started; on Windows, end it."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


class _Log:
    """Writes what a step prints to the log, up to a limit, and remembers its last lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.left = file, LOG_BYTES
        self.last: collections.deque[bytes] = collections.deque(maxlen=TAIL)
        self.begun = b""  # of a line

    def write(self, text: bytes) -> None:
        """Take what was printed."""
        self.file.write(text[: self.left])
        self.file.flush()
        self.left -= len(text[: self.left])
        *lines, self.begun = (self.begun + text).split(b"\n")
        self.last.extend(lines)
        self.begun = self.begun[-1000:]

    def close(self) -> list[str]:
        """Write the last lines of what was too long; returns those that are shown."""
        self.last.append(self.begun)
        if not self.left:
            self.file.write(b"\n[... cut here ...]\n" + b"\n".join(self.last))
        self.file.write(b"\n")
        self.file.flush()
        lines = [line.decode(errors="replace").rstrip()[:200] for line in self.last]
        return [line for line in lines if line][-SHOWN:]


def _listen(process: subprocess.Popen[bytes], log: _Log, until: float) -> bool:
    """Write to the log what a process prints; returns whether it ended before the time."""
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if process.poll() is not None and not selector.select(0):
                return True  # what it started may live on, and print nothing
            if selector.select(min(left, 0.1)):
                if not (text := os.read(process.stdout.fileno(), 1 << 16)):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, until - time.monotonic()))
                    break
                log.write(text)
    return process.poll() is not None


def run_step(step: dict[str, Any], folder: Path, rehearse: bool, limit: float) -> Outcome:
    """Run a step for at most `limit` seconds."""
    begun, command = time.monotonic(), command_of(step, folder, rehearse)
    state, status = "ended", 127  # as a shell says, of a command that is not there
    with (folder / "log.txt").open("ab") as file:
        file.write(f"== {step['name']}: {shlex.join(command)}\n".encode())
        log = _Log(file)
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment_of(step, folder, rehearse),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            log.write(str(error).encode())
        else:
            with process:
                try:
                    ended = _listen(process, log, begun + limit)
                    if not ended:
                        state = "cut"
                        _signal(process, signal.SIGINT)
                        _listen(process, log, time.monotonic() + GRACE)
                finally:  # what it started, too, also where this process is interrupted
                    _signal(process, KILL)
                status = process.wait()
        shown = log.close()
    _say("\n".join(shown))
    about = step["name"], step["what"], step["judge"]
    last = shown[-1] if shown else "it wrote nothing"
    return Outcome(*about, state, status, round(time.monotonic() - begun, 1), last)


def _write(path: Path, text: str) -> None:
    """Write a file at once, or not at all."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def _ended_by_a_signal() -> Iterator[None]:
    """Let SIGTERM, which `timeout` sends, end the running step, too."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(folder: Path, rehearse: bool = False, chosen: Sequence[dict[str, Any]] = ()) -> int:
    """Run all steps, or those given; the exit status is 0 if all is right."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BenchError(f"--first {folder}: there are files in it; give a new folder")
    todo, outcomes = list(chosen) or steps(), list[Outcome]()
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    begun = time.monotonic()
    due = begun

    def note(running: Sequence[Outcome] = ()) -> str:
        ran = [outcome._asdict() for outcome in (*outcomes, *running)]
        state = {"date": date, "rehearsal": rehearse, "steps": ran}
        _write(folder / "state.json", json.dumps(state, indent=1) + "\n")
        text = verdict.text(folder, [*outcomes, *running], rehearse)
        _write(folder / "verdict.txt", text)
        return text

    with _ended_by_a_signal():
        for step in todo:
            due += step["limit"]
            limit = due - time.monotonic()
            _say(f"== {time.monotonic() - begun:.0f} s: {step['name']}: {step['what']}")
            about = step["name"], step["what"], step["judge"]
            note([Outcome(*about, "running", None, 0.0)])
            outcomes.append(run_step(step, folder, rehearse, limit))
            note()
        _say(f"== {time.monotonic() - begun:.0f} s: verdict\n{note()}")
    return verdict.status(folder, outcomes)


def main(args: argparse.Namespace) -> int:
    """Run the steps, for `bench.gpu`."""
    return run(args.first, args.rehearse)
