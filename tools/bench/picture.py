#!/usr/bin/env python3
"""A whole picture through the real server beside its networks alone: tools/bench/picture.py [--dtype bf16] [--turns 3]

In turn: one guided picture of the model's size, by the server's own clock from arrival to answer; and the calls of the
networks that it takes, one after the other in networks_bench: the steps, the VAE, the source's embeddings (one for the
UNet, one for the similarity) and the score. Wall seconds are judged; CPU seconds do not count what else the machine did.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

import paced
import results
from start import cpu_seconds
from server_process import running_server


def through_server(a, server, address, steps):
    """Wall and CPU seconds of one picture."""
    before = cpu_seconds(server.pid)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [os.path.join(a.bin, "image-variations"), "vary", a.picture, "--steps", str(steps), "--sampler", "ddim",
             "--json", "--quiet", "--no-sheet", "-o", folder, "--server", address, "--timeout", "20m"],
            stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[0])["metrics"]["total_seconds"], cpu_seconds(server.pid) - before


def alone(networks, side, steps):
    calls = [f"unet/guided/{side}x{side}"] * steps + [f"vae/{side}x{side}", "clip", "clip", "safety"]
    wall, cpu = zip(*[networks.run(call) for call in calls])
    return sum(wall), sum(cpu)


def side_of(model):
    with open(f"{model}/unet/config.json", encoding="utf-8") as unet, \
         open(f"{model}/vae/config.json", encoding="utf-8") as vae:
        return json.load(unet)["sample_size"] << len(json.load(vae)["block_out_channels"]) - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results.add_flags(parser)
    parser.add_argument("--model", default="out/full-size")
    parser.add_argument("--picture", default="demo/pictures/penguin.png")
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    a = parser.parse_args()
    if a.quick:
        a.model, a.steps, a.turns = "demo/model", 2, 1
    report = results.Results(a.json, a.quick)
    flags = ["--dtype", a.dtype, "--threads", str(a.threads)]
    side = side_of(a.model)
    with (running_server(a.bin, a.model, flags) as (server, address),
          paced.networks(a, a.model, f"--dtype={a.dtype}", f"--threads={a.threads}") as networks):
        through_server(a, server, address, 1)   # makes what is kept
        alone(networks, side, 1)
        turns = [(through_server(a, server, address, a.steps), alone(networks, side, a.steps)) for _ in range(a.turns)]
    wall, cpu = ([(whole[i], bare[i]) for whole, bare in turns] for i in (0, 1))
    ratio = [statistics.median(whole / bare for whole, bare in pairs) if all(bare for _, bare in pairs) else 0.0
             for pairs in (wall, cpu)]
    whole, bare = (statistics.median(seconds) for seconds in zip(*wall))
    report.row(f"picture of {side}x{side}, {a.steps} steps, {a.dtype}: through the server / networks alone",
               ratio[0], 1.02,
               note=f"{os.path.basename(a.model)}, {whole:.3g} s / {bare:.3g} s, {a.turns} turns; of CPU seconds "
                    f"{ratio[1]:.3f}")
    report.end()


if __name__ == "__main__":
    main()
