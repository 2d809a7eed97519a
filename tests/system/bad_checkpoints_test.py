#!/usr/bin/env python3
"""The real server refuses each bad checkpoint within a second, with file, tensor and reason, and without the memory that a
header claims: bad_checkpoints_test.py BIN_FOLDER [MODEL]

Each is MODEL (demo/model) with its VAE's file made wrong. The second is of processor time: the machine may be busy.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "diffusion_pytorch_model.safetensors"
MOST_SECONDS = 1
MOST_BYTES = 512 << 20   # LibTorch and no weights take 120 MiB
BIAS, WEIGHT = "decoder.conv_in.bias", "decoder.conv_in.weight"   # the first two tensors of the file
LAST = "quant_conv.weight"


class Weights:
    """A safetensors file in parts."""

    def __init__(self, path):
        whole = path.read_bytes()
        length, = struct.unpack("<Q", whole[:8])
        self.header, self.data = json.loads(whole[8:8 + length]), bytearray(whole[8 + length:])

    def set_first_value(self, tensor, value):
        kind = {"F16": "<e", "F32": "<f"}[self.header[tensor]["dtype"]]
        struct.pack_into(kind, self.data, self.header[tensor]["data_offsets"][0], value)

    def write(self, path, header=None):
        header = header or json.dumps(self.header).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + self.data)


def truncate(vae, weights):
    weights.data = weights.data[:-1000]
    weights.write(vae / NAME)


def name_missing_shard(vae, weights):
    weights.write(vae / "one.safetensors")
    (vae / NAME).unlink()
    names = {name: "one.safetensors" for name in weights.header if name != "__metadata__"}
    (vae / f"{NAME}.index.json").write_text(json.dumps({"weight_map": names | {BIAS: "two.safetensors"}}))


def put(value):
    def change(vae, weights):
        weights.set_first_value(WEIGHT, value)
        weights.write(vae / NAME)
    return change


def move(tensor, by):
    def change(vae, weights):
        weights.header[tensor]["data_offsets"] = [by + offset for offset in weights.header[tensor]["data_offsets"]]
        weights.write(vae / NAME)
    return change


def claim_long_header(vae, weights):
    (vae / NAME).write_bytes(struct.pack("<Q", 1 << 60) + b"{}" + bytes(weights.data))


def name_tensor_twice(vae, weights):
    entry = f'"{BIAS}": {json.dumps(weights.header[BIAS])}'
    weights.write(vae / NAME, header=f"{{{entry}, {json.dumps(weights.header)[1:]}".encode())


def change_type(vae, weights):
    weights.header[BIAS]["dtype"] = "F8_E4M3"
    weights.write(vae / NAME)


def change_shape(vae, weights):
    weights.header[WEIGHT]["shape"].reverse()
    weights.write(vae / NAME)


def forget_to_pull(vae, weights):
    (vae / NAME).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 334643268\n")


BAD = {   # what is wrong: how to make it, what must be said
    "a truncated file": (truncate, [NAME, "truncated"]),
    "an index that names a missing file": (name_missing_shard, ["two.safetensors"]),
    "NaN": (put(float("nan")), [NAME, WEIGHT, "not finite"]),
    "infinity": (put(float("inf")), [NAME, WEIGHT, "not finite"]),
    "offsets that overlap": (move(WEIGHT, -64), [NAME, WEIGHT, "that of the tensor before it ends at"]),
    "offsets out of range": (move(LAST, 1 << 40), [NAME, LAST, "begins at"]),
    "a header of 2^60 bytes": (claim_long_header, [NAME, str(1 << 60)]),
    "a tensor twice": (name_tensor_twice, [NAME, BIAS, "twice"]),
    "a type that is not known": (change_type, [NAME, BIAS, "F8_E4M3"]),
    "another shape": (change_shape, [NAME, WEIGHT, "shape"]),
    "a git-lfs pointer": (forget_to_pull, [NAME, "git-LFS pointer"]),
}


def refusal(bin_folder, model):
    """(what the server said, processor seconds, peak memory in bytes); starting is a failure."""
    command = [Path(bin_folder) / "image-variations-server", "--model", model, "--listen", "127.0.0.1:0",
               "--metrics-listen", ""]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read().decode()
    return (said if process.returncode == 1 else f"exit {process.returncode}: {said}"), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def is_refused(bin_folder, what, model, wanted):
    said, seconds, peak = refusal(bin_folder, model)
    missing = [word for word in wanted if word not in said]
    holds = not missing and not said.startswith("exit") and seconds < MOST_SECONDS and peak < MOST_BYTES
    print(f"{what}: {seconds:.2f} s, {peak >> 20} MiB{'' if holds else f'; DOES NOT HOLD: {missing} missing in {said}'}", flush=True)
    return holds


def make_model(model, folder, change):
    """MODEL by links, but for its VAE's file."""
    shutil.copytree(model, folder, copy_function=os.symlink, ignore=shutil.ignore_patterns("vae"))
    shutil.copytree(model / "vae", folder / "vae", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(model / "vae" / NAME, folder / "vae")
    change(folder / "vae", Weights(model / "vae" / NAME))


def main():
    bin_folder, model = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "demo" / "model").resolve()
    with tempfile.TemporaryDirectory() as name:
        held = []
        for number, (what, (change, wanted)) in enumerate(BAD.items()):
            folder = Path(name, str(number))
            make_model(model, folder, change)
            held.append(is_refused(bin_folder, what, folder, wanted))
            shutil.rmtree(folder)
        os.environ["HF_HUB_CACHE"] = name
        repository = Path(name, "models--acme--loop")
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        (repository / "snapshots").mkdir()
        (repository / "snapshots" / ("0" * 40)).symlink_to("0" * 40)
        held.append(is_refused(bin_folder, "a loop of links in the cache", "acme/loop", ["loop"]))
    sys.exit(f"{held.count(False)} of {len(held)} do not hold" if False in held else 0)


if __name__ == "__main__":
    main()
