#!/usr/bin/env python3
"""Start and memory of the full-size server, files cached: tools/bench/start.py [--dtype bf16 fp32] [--rounds 2]

Each round prints: seconds to "listening on", processor seconds, resident megabytes then, and their peak after one
picture of the model's size in two steps. Much of a start is taking memory for the first time, and what that costs is
the machine's affair: a round begins with taking as much in one thread, so that its seconds stand beside the start's.
"""
import argparse
import ctypes
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import results
from server_process import running_server


def megabytes(pid, what):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith(what))


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_to_take(size):
    memory = mmap.mmap(-1, size)
    memory.madvise(mmap.MADV_HUGEPAGE)
    began = time.monotonic()
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 1, size)
    return time.monotonic() - began


def read_files(folder):
    """Into the page cache; their size."""
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                while piece := len(file.read(1 << 24)):
                    size += piece
    return size


def measure(a, dtype):
    weights = read_files(a.model) // (2 if dtype == "bf16" else 1)
    taken = seconds_to_take(weights)
    began = time.monotonic()
    with running_server(a.bin, a.model, ["--dtype", dtype]) as (server, address), tempfile.TemporaryDirectory() as folder:
        start = time.monotonic() - began
        cpu, resident = cpu_seconds(server.pid), megabytes(server.pid, "VmRSS")
        subprocess.run([f"{a.bin}/image-variations", "vary", a.picture, "--server", address, "--no-sheet", "--steps",
                        "2", "--out", folder], check=True, stdout=subprocess.DEVNULL)
        peak = megabytes(server.pid, "VmHWM")
    print(f"{dtype}: listening after {start:.1f} s ({cpu:.1f} s of processor time; {weights / 1e9:.1f} GB of memory alone "
          f"took {taken:.1f} s), {resident:.0f} MB resident, {peak:.0f} MB at most with one picture", flush=True)
    return start, cpu, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--model", default="out/full-size")
    parser.add_argument("--picture", default="demo/pictures/penguin.png")
    parser.add_argument("--dtype", nargs="*", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", default="", help="file that the results are added to, for report.py")
    a = parser.parse_args()
    report = results.Results(a.json)
    measured = {dtype: [] for dtype in a.dtype}
    for _ in range(a.rounds):
        for dtype in a.dtype:
            measured[dtype].append(measure(a, dtype))
    for dtype, rounds in measured.items():
        start, cpu, peak = (statistics.median(values) for values in zip(*rounds))
        report.row(f"start of the {os.path.basename(a.model)} server, files cached, to listening: {dtype}", start,
                   15 if dtype == "bf16" else 12, "s", note=f"{cpu:.1f} s of CPU time, {len(rounds)} rounds")
        if dtype == "bf16":
            report.row("most memory of a bf16 server with one picture", peak / 1e3, 3.2, "GB", note="VmHWM")


if __name__ == "__main__":
    main()
