"""Work for worker processes, which import it by name."""

from __future__ import annotations

import os
import signal
import sys
import time

from vrcli.execute.executor import Refused


def make():
    born = os.getpid()
    count = 0

    def work(payload, note, should_stop):
        nonlocal count
        count += 1
        kind, value = payload
        if kind == "square":
            note(f"squaring {value}")
            return (value * value, born, count)
        if kind == "raise":
            raise ValueError("no good\nsecond line")
        if kind == "refuse":
            raise Refused("no such data set")
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "exit":
            os._exit(3)
        if kind == "sleep":
            end = time.monotonic() + value
            while time.monotonic() < end:
                if should_stop():
                    return "stopped"
                time.sleep(0.01)
            return "slept"
        if kind == "deaf":
            time.sleep(value)
        if kind == "print":
            print("noise")
            sys.stdout.flush()
        return None

    return work
