#!/usr/bin/env python3
"""Makes a folder of safetensors out of one whose weights are pickled: tools/convert_checkpoint.py FOLDER NEW_FOLDER

    .venv/bin/python tools/convert_checkpoint.py sd-image-variations-diffusers sd-image-variations

FOLDER is a checkpoint in diffusers' layout (model_index.json, a folder for each component, *.bin), the old revision for
lambda-diffusers among them. Configs are copied, components that are safetensors already as they are. Values and types are
kept. Left out: `position_ids` buffers, and the text half of a full CLIPModel. NEW_FOLDER gets manifest.json with the
sha256 of every file. Nothing is executed from the pickles (torch.load with weights_only). Needs only torch.
"""
import argparse
import ctypes
import hashlib
import json
import shutil
import sys
from pathlib import Path

import torch

# What safetensors calls the types that the server reads.
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
PICKLES = ("diffusion_pytorch_model.bin", "pytorch_model.bin")
TEXT_TOWER = ("text_model.", "text_projection.", "logit_scale")


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size()))


def load_pickle(path):
    """The tensors to keep, by name, each contiguous."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        sys.exit(f"{path}: not a state dict of tensors")
    keep = {name: value for name, value in sorted(state.items())
            if not name.endswith("position_ids") and not name.startswith(TEXT_TOWER)}
    for name, value in keep.items():
        if value.dtype not in TYPES:
            sys.exit(f"{path}: {name} is {value.dtype}, which the server does not read")
    return {name: value.contiguous() for name, value in keep.items()}


def convert_component(source, target):
    """Copies the component's files; its pickle becomes a safetensors file. Returns what was done, for people."""
    target.mkdir()
    pickle = next((source / name for name in PICKLES if (source / name).is_file()), None)
    ready = sorted(source.glob("*.safetensors"))
    for file in [*source.glob("*.json"), *ready]:
        if not file.name.endswith(".bin.index.json"):
            shutil.copyfile(file, target / file.name)
    if ready or pickle is None:
        if not ready and list(source.glob("*.bin*")):
            sys.exit(f"{source}: its weights are in {', '.join(sorted(f.name for f in source.glob('*.bin*')))}, which is "
                     f"not converted; known are {', '.join(PICKLES)}")
        return "copied"
    tensors = load_pickle(pickle)
    stem = "model" if pickle.name == "pytorch_model.bin" else pickle.stem
    write_safetensors(target / f"{stem}.safetensors", tensors)
    return f"{pickle.name} -> {stem}.safetensors, {len(tensors)} tensors"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("new_folder", type=Path)
    a = parser.parse_args()
    if not (a.folder / "model_index.json").is_file():
        sys.exit(f"{a.folder} has no model_index.json: not a checkpoint in diffusers' layout")
    if a.new_folder.exists():
        sys.exit(f"{a.new_folder} is there already")

    unfinished = a.new_folder.with_name(a.new_folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    shutil.copyfile(a.folder / "model_index.json", unfinished / "model_index.json")
    index = json.loads((a.folder / "model_index.json").read_text())
    for name, value in index.items():
        if isinstance(value, list) and value[0] is not None:
            print(f"{name}: {convert_component(a.folder / name, unfinished / name)}")
    files = sorted(f for f in unfinished.rglob("*") if f.is_file())
    manifest = {str(file.relative_to(unfinished)): sha256(file) for file in files}
    (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    unfinished.rename(a.new_folder)
    print(f"{a.new_folder}: start the server with --model {a.new_folder}")


if __name__ == "__main__":
    main()
