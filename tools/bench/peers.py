#!/usr/bin/env python3
"""Our networks beside what a user would pick instead, in one run, taking turns.

    tools/setup.sh peers && .venv/bin/python tools/bench/peers.py --dtype bf16 [--peers openvino] [--cases unet vae clip]

Peers get the same weights (out/full-size), the same sizes and the same number of threads: OpenVINO with static shapes
and its inference precision hint, diffusers in channels_last, diffusers under torch.compile with freezing. Each round
runs every case once per contestant, in turn. Prints the median, the fastest and the slowest round in seconds, CPU
seconds, and our ratio to each peer: the median of the rounds' ratios of CPU seconds (both keep all threads busy, and CPU
seconds do not count what else the machine did) and of wall seconds.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from server_process import OPENMP

for name, value in {**OPENMP, "TORCHINDUCTOR_FREEZING": "1"}.items():
    os.environ.setdefault(name, value)

import results
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPVisionModelWithProjection


class Decoder(torch.nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latents):
        return self.vae.decode(latents, return_dict=False)[0]


class Step(torch.nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, latents, timestep, context):
        return self.unet(latents, timestep, context, return_dict=False)[0]


class Embedder(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels):
        return self.encoder(pixels, return_dict=False)[0]


def case(name, model):
    """The module and the inputs of a case of networks_bench; batches hold both halves of a guided step."""
    kind, *rest = name.split("/")
    height, width = (int(side) // 8 for side in rest[-1].split("x")) if rest else (0, 0)
    if kind == "unet":
        rows = 2 if rest[0] == "guided" else 1
        module = Step(UNet2DConditionModel.from_pretrained(f"{model}/unet"))
        return module, (torch.randn(rows, 4, height, width), torch.tensor(500.0), torch.randn(rows, 1, 768))
    if kind == "vae":
        return Decoder(AutoencoderKL.from_pretrained(f"{model}/vae")), (torch.randn(1, 4, height, width),)
    encoder = CLIPVisionModelWithProjection.from_pretrained(f"{model}/image_encoder")
    return Embedder(encoder), (torch.randn(1, 3, 224, 224),)


def openvino(name, a):
    import openvino as ov
    module, inputs = case(name, a.model)
    converted = ov.convert_model(module.eval(), example_input=inputs, input=[list(i.shape) for i in inputs])
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if a.dtype == "bf16" else "f32", "INFERENCE_NUM_THREADS": a.threads,
             "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(converted, "CPU", hints).create_infer_request()
    arrays = [i.numpy() for i in inputs]
    return lambda: request.infer(arrays)


def torch_module(name, a):
    module, inputs = case(name, a.model)
    dtype = torch.bfloat16 if a.dtype == "bf16" else torch.float32
    module = module.eval().to(dtype).to(memory_format=torch.channels_last)
    inputs = [i if i.dim() == 0 else i.to(dtype) for i in inputs]
    return module, [i.to(memory_format=torch.channels_last) if i.dim() == 4 else i for i in inputs]


def diffusers(name, a):
    module, inputs = torch_module(name, a)
    return lambda: module(*inputs)


def compiled(name, a):
    module, inputs = torch_module(name, a)
    module = torch.compile(module)
    return lambda: module(*inputs)


PEERS = {"openvino": openvino, "diffusers": diffusers, "torch.compile": compiled}


def serve_peer(peer, name, a):
    """A peer's own process: runs once per line of standard input, as networks_bench --paced."""
    torch.set_num_threads(a.threads)
    with torch.no_grad():
        run = PEERS[peer](name, a)
        for _ in range(2):
            run()
        print("ready", flush=True)
        for _ in sys.stdin:
            began, usage = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            run()
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
            cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
            print(f"{wall:.6f} {cpu:.6f}", flush=True)


class Contestant:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while self.process.stdout.readline().strip() != "ready":
            if self.process.poll() is not None:
                sys.exit(f"{command[0]} ended")

    def run(self, name):
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return [float(value) for value in self.process.stdout.readline().split()]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def limit(name, dtype, peer):
    """What our ratio to the peer must not pass, None where nothing is promised."""
    if peer == "torch.compile":
        return 0.55 if name == "unet/guided/512x512" else None
    if peer != "openvino":
        return None
    if not name.startswith("unet"):
        return 1.0
    if name == "unet/guided/512x512":
        return 0.8 if dtype == "bf16" else 0.9
    return 0.9 if dtype == "bf16" else None


def summary(rounds):
    wall, cpu = zip(*rounds)
    return {"wall": statistics.median(wall), "fastest": min(wall), "slowest": max(wall), "cpu": statistics.median(cpu)}


def compare(name, ours, a, report):
    ours.run(name)
    contestants = {"ours": ours}
    for peer in a.peers:
        contestants[peer] = Contestant([sys.executable, __file__, *sys.argv[1:], "--serve", peer, name])
    rounds = {who: [] for who in contestants}
    for _ in range(a.rounds):
        for who, contestant in contestants.items():
            rounds[who].append(contestant.run(name))
    for who, contestant in contestants.items():
        row = summary(rounds[who]) | {"case": name, "dtype": a.dtype, "who": who}
        if who != "ours":
            contestant.end()
            for i, what in enumerate(("wall_ratio", "cpu_ratio")):
                row[what] = statistics.median(our[i] / their[i] for our, their in zip(rounds["ours"], rounds[who]))
        print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}),
              flush=True)
        if who != "ours" and (most := limit(name, a.dtype, who)):
            ours_wall, theirs = (statistics.median(wall for wall, _ in rounds[i]) for i in ("ours", who))
            report.row(f"{name} {a.dtype}: ours / {who}", row["wall_ratio"], most,
                       note=f"{ours_wall:.3g} s / {theirs:.3g} s, {a.rounds} rounds; of CPU time {row['cpu_ratio']:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--model", default="out/full-size")
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--cases", nargs="*", default=["unet/guided/512x512", "vae/512x512", "clip"])
    parser.add_argument("--json", default="", help="file that the results are added to, for report.py")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        return serve_peer(*a.serve, a)
    report = results.Results(a.json)
    ours = Contestant([f"{a.bin}/networks_bench", f"--model={a.model}", f"--dtype={a.dtype}", f"--threads={a.threads}",
                       "--paced"])
    for name in a.cases:
        compare(name, ours, a, report)
    ours.end()


if __name__ == "__main__":
    main()
