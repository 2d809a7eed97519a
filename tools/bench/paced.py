"""A networks_bench that runs one case at a time, when it is asked to."""
import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from server_process import OPENMP


class Paced:
    def __init__(self, process):
        self.process = process

    def run(self, case):
        """Seconds and CPU seconds of the case, once."""
        print(case, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"networks_bench ended at {case}")
        return [float(value) for value in line.split()]


@contextlib.contextmanager
def networks(a, model, *flags):
    process = subprocess.Popen(
        [os.path.join(a.bin, "networks_bench"), f"--model={model}", "--paced", *flags], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**OPENMP, **os.environ})
    if process.stdout.readline().strip() != "ready":
        sys.exit(f"networks_bench did not start with {model}")
    try:
        yield Paced(process)
    finally:
        process.stdin.close()
        process.wait()
