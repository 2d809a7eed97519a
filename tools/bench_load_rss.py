#!/usr/bin/env python3
"""How much memory loading a model takes: the peaks of /proc/PID/status until the server serves.

    .venv/bin/python tools/make_full_size_model.py /tmp/full-size
    python3 tools/bench_load_rss.py --model /tmp/full-size [--flag-of-the-server ...]

Starting includes the self-test and the warm-up, whose activations are anonymous memory too; the times of the peaks
tell them from loading. Exits 1 if the peak resident set passes weights + 1 GB.
"""
import argparse
import glob
import os
import sys
import time

from server_process import running_server

SPARE_BYTES = 10**9
FIELDS = ("VmRSS", "RssAnon", "RssFile")


def status(pid):
    """Memory fields of /proc/PID/status in bytes; empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith(("Vm", "Rss"))]
    except OSError:
        return {}
    return {name.rstrip(":"): int(value) * 1024 for name, value, _ in lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--model", default="demo/model")
    a, flags = parser.parse_known_args()

    weights = sum(os.path.getsize(path) for path in glob.glob(f"{a.model}/*/*.safetensors"))
    peaks = dict.fromkeys(FIELDS, (0, 0))   # bytes, seconds since the start
    began = time.monotonic()

    def sample(pid):
        now = status(pid)
        for field in FIELDS:
            peaks[field] = max(peaks[field], (now.get(field, 0), time.monotonic() - began))

    with running_server(a.bin, a.model, flags, while_starting=sample) as (process, _):
        serving = time.monotonic() - began
        last = status(process.pid)
    print(f"weights  {weights / 1e9:7.3f} GB in {a.model}; serving after {serving:.1f} s")
    print(f"VmHWM    {last['VmHWM'] / 1e9:7.3f} GB, limit {(weights + SPARE_BYTES) / 1e9:.3f} GB (weights + 1 GB)")
    for field in FIELDS:
        most, when = peaks[field]
        print(f"{field:8} {most / 1e9:7.3f} GB at most (at {when:.1f} s), {last[field] / 1e9:.3f} GB when serving")
    sys.exit(0 if last["VmHWM"] <= weights + SPARE_BYTES else 1)


if __name__ == "__main__":
    main()
