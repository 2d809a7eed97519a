#!/usr/bin/env python3
"""Makes a folder that the server reads out of any other checkpoint: tools/convert_checkpoint.py CHECKPOINT NEW_FOLDER

    .venv/bin/python tools/convert_checkpoint.py sd-image-variations-diffusers sd-image-variations

CHECKPOINT is a folder in diffusers' layout with pickled weights (*.bin, single or in shards), the revision for
lambda-diffusers among them, or a single file of the original repository (*.ckpt, *.safetensors). NEW_FOLDER gets
safetensors of the same values and types, configs, and manifest.json with the sha256 sum of every file, which the server
checks. Left out: what no picture depends on (position_ids, the text half of CLIP, training state).

A single file has no configs: they are those of the published model, or of the folder --like; and no safety checker: bring
one with --safety-checker, a component's folder such as safety_checker/ of another checkpoint. Without, the server wants
--safety off.

Nothing is executed from pickles (torch.load with weights_only). Needs only torch.
"""
import argparse
import ctypes
import hashlib
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import torch

import ldm_names
from published_configs import CONFIGS, SAFETY_CHECKER

# What safetensors calls the types that the server reads.
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}  # others: model
TEXT_TOWER = ("text_model.", "text_projection.", "logit_scale")
PIPELINE = "StableDiffusionImageVariationPipeline"


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        begin, tensors = file.tell(), {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            dtype = next((known for known, word in TYPES.items() if word == entry["dtype"]), None)
            if dtype is None:
                sys.exit(f"{path}: {name} is {entry['dtype']}, which the server does not read")
            file.seek(begin + first)
            data = bytearray(file.read(last - first))
            tensors[name] = (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            sys.exit(f"{path.parent.name}: {name} is {tensor.dtype}, which the server does not read")
    # Large elements first: every tensor is aligned, and the server can use it where it is mapped.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in ordered:
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            tensor = tensor.detach().contiguous()
            file.write(ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size()))


def load_pickle(path):
    """The tensors of a state dict, or of the one in a training checkpoint."""
    if not path.is_file():
        sys.exit(f"{path}: no such file")
    with open(path, "rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            sys.exit(f"{path}: a git-LFS pointer in place of the file; run `git lfs pull` where it was cloned")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch has no class for what it refuses
        refused = re.search(r"GLOBAL (\S+)", str(error))
        sys.exit(f"{path}: not converted: " + (f"it needs {refused[1]}, which is code and not a tensor" if refused else
                                               f"{str(error).strip().splitlines()[0]}"))
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state:
        sys.exit(f"{path}: not a state dict of tensors")
    others = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        sys.exit(f"{path}: not a state dict of tensors: {', '.join(map(str, others[:10]))}")
    return state


def without_leftovers(state):
    return {name: tensor for name, tensor in state.items()
            if not name.endswith("position_ids") and not name.startswith(TEXT_TOWER)}


def convert_shards(index, target, stem):
    """Shard by shard, so that one of them is in memory at a time."""
    files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    weight_map = {}
    for number, name in enumerate(files, 1):
        tensors = without_leftovers(load_pickle(index.parent / name))
        shard = f"{stem}-{number:05}-of-{len(files):05}.safetensors"
        write_safetensors(target / shard, tensors)
        weight_map |= dict.fromkeys(tensors, shard)
    (target / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=1))
    return f"{index.name} -> {len(files)} shards, {len(weight_map)} tensors"


def convert_weights(source, target, component):
    """A component's weights, whatever holds them. Returns what was done, for people."""
    stem = STEMS.get(component, "model")
    pickled = stem if component in STEMS else "pytorch_model"
    ready = sorted(source.glob(f"{stem}*.safetensors"))
    for file in [*ready, *source.glob(f"{stem}.safetensors*.json")]:
        shutil.copyfile(file, target / file.name)
    if ready:
        return "copied"
    for variant in ("", ".fp16", ".bf16"):
        if (single := source / f"{pickled}{variant}.bin").exists():
            tensors = without_leftovers(load_pickle(single))
            write_safetensors(target / f"{stem}.safetensors", tensors)
            return f"{single.name} -> {stem}.safetensors, {len(tensors)} tensors"
        for index in (f"{pickled}.bin.index{variant}.json", f"{pickled}.bin{variant}.index.json"):
            if (source / index).exists():
                return convert_shards(source / index, target, stem)
    found = ", ".join(sorted(file.name for file in source.iterdir() if file.suffix not in (".json", ".md", ".txt")))
    sys.exit(f"{source}: no weights that can be converted: needs {pickled}.bin or {stem}.safetensors, has {found or 'none'}")


def vision_config(clip):
    """The config of the vision half of a full CLIPModel."""
    vision = clip.get("vision_config_dict") or clip["vision_config"]
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
            "hidden_act", "layer_norm_eps", "num_channels")
    return {"architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model",
            "projection_dim": clip.get("projection_dim", 512), **{key: vision[key] for key in keys if key in vision}}


def adapt_old_revision(folder, index):
    """Configs of the revision for lambda-diffusers as those of the native pipeline; others stay as they are."""
    def edit(name, change):
        path = folder / name
        path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2) + "\n")

    if index["image_encoder"][1] == "CLIPModel":
        index["image_encoder"][1] = "CLIPVisionModelWithProjection"
        edit("image_encoder/config.json", vision_config)
    if index["_class_name"] == "StableDiffusionImageEmbedPipeline":
        index["_class_name"] = PIPELINE
        # That pipeline passed offset=1 to set_timesteps; today's schedulers read it from their config.
        edit("scheduler/scheduler_config.json", lambda config: {"steps_offset": 1, **config})
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def convert_folder(source, target):
    if not (source / "model_index.json").is_file():
        sys.exit(f"{source} has no model_index.json: not a checkpoint in diffusers' layout")
    index = json.loads((source / "model_index.json").read_text())
    for name, value in index.items():
        if not isinstance(value, list) or value[0] is None:
            continue
        (target / name).mkdir()
        for file in (source / name).glob("*config.json"):
            shutil.copyfile(file, target / name / file.name)
        if name not in ("scheduler", "feature_extractor"):
            print(f"{name}: {convert_weights(source / name, target / name, name)}")
    adapt_old_revision(target, index)


def read_configs(like):
    """{file: its JSON} for a checkpoint without configs."""
    if like is None:
        return json.loads(json.dumps(CONFIGS))
    return {name: json.loads((like / name).read_text()) for name in CONFIGS}


def convert_single_file(source, target, a):
    state = read_safetensors(source) if source.suffix == ".safetensors" else load_pickle(source)
    components, unknown = ldm_names.rename(state, a.ema)
    empty = [name for name, tensors in components.items() if not tensors]
    if empty:
        sys.exit(f"{source}: no tensors of {', '.join(empty)}: not a checkpoint of image variations; it has "
                 f"{', '.join(sorted({name.split('.')[0] for name in state}))}")
    if unknown:
        sys.exit(f"{source}: not converted, because nothing is known of {len(unknown)} tensors: {', '.join(unknown[:10])}")
    if not a.ema and any(name.startswith("model_ema.") for name in state):
        print("unet: the plain weights; the file has averaged ones too, which --ema takes")
    configs = read_configs(a.like)
    if "scale_factor" in state:
        configs["vae/config.json"]["scaling_factor"] = round(float(state["scale_factor"]), 7)
    configs["model_index.json"]["safety_checker"] = SAFETY_CHECKER if a.safety_checker else [None, None]
    for name, config in configs.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text(json.dumps(config, indent=2) + "\n")
    for name, tensors in components.items():
        write_safetensors(target / name / f"{STEMS.get(name, 'model')}.safetensors", tensors)
        print(f"{name}: {len(tensors)} tensors")
    if a.safety_checker:
        (target / "safety_checker").mkdir()
        shutil.copyfile(a.safety_checker / "config.json", target / "safety_checker" / "config.json")
        print(f"safety_checker: {convert_weights(a.safety_checker, target / 'safety_checker', 'safety_checker')}")


def write_manifest(folder):
    sums = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        sums[str(path.relative_to(folder))] = digest.hexdigest()
    (folder / "manifest.json").write_text(json.dumps(sums, indent=1) + "\n")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("new_folder", type=Path)
    parser.add_argument("--like", type=Path, metavar="FOLDER", help="for a single file: a checkpoint with the same configs")
    parser.add_argument("--safety-checker", type=Path, metavar="FOLDER", help="for a single file: the checker to add")
    parser.add_argument("--ema", action="store_true", help="for a single file: the UNet's averaged weights (model_ema.*)")
    a = parser.parse_args(arguments)
    if a.new_folder.exists():
        sys.exit(f"{a.new_folder} is there already")
    if not a.checkpoint.exists():
        sys.exit(f"{a.checkpoint}: no such file or folder")

    unfinished = a.new_folder.with_name(a.new_folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if a.checkpoint.is_dir():
        convert_folder(a.checkpoint, unfinished)
    else:
        convert_single_file(a.checkpoint, unfinished, a)
    write_manifest(unfinished)
    unfinished.rename(a.new_folder)
    print(f"{a.new_folder}: start the server with --model {a.new_folder}")


if __name__ == "__main__":
    main()
