"""Every layout in which checkpoints come, made of the bundled model: for tests in Python. Needs torch.

The weights are rounded once to values that fp32, fp16 and bf16 all have, so that every layout holds the same model.
"""
import json
import shutil
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "demo" / "model"
sys.path.insert(0, str(ROOT / "tools"))

from convert_checkpoint import STEMS, read_safetensors, write_safetensors  # noqa: E402

COMPONENTS = ("image_encoder", "safety_checker", "unet", "vae")
LEGACY_VAE = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
COMMIT = "a2a13984e57db80adcc9e3f85d568dcccb9b29fc"


def stem(component):
    return STEMS.get(component, "model")


def bundled_weights():
    """{component: {name: float32 tensor}}."""
    def rounded(tensor):
        return tensor.to(torch.bfloat16).to(torch.float16).to(torch.float32)
    return {component: {name: rounded(tensor) for name, tensor in
                        read_safetensors(MODEL / component / f"{stem(component)}.safetensors").items()}
            for component in COMPONENTS}


def write_configs(folder):
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md", "report.json"))


def write_safetensors_folder(folder, weights, dtype=torch.float32, variant=""):
    write_configs(folder)
    for component, tensors in weights.items():
        write_safetensors(folder / component / f"{stem(component)}{variant}.safetensors",
                          {name: tensor.to(dtype) for name, tensor in tensors.items()})


def halves(tensors):
    names = sorted(tensors)
    return [{name: tensors[name] for name in part} for part in (names[::2], names[1::2])]


def write_shards(folder, index, shard, tensors, save):
    """shard: a name with {} for "00001-of-00002"."""
    weight_map = {}
    for number, part in enumerate(halves(tensors), 1):
        name = shard.format(f"{number:05}-of-00002")
        save(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))


def write_sharded_folder(folder, weights, dtype=torch.float32, variant=""):
    write_configs(folder)
    for component, tensors in weights.items():
        write_shards(folder / component, f"{stem(component)}.safetensors.index{variant}.json",
                     stem(component) + variant + "-{}.safetensors",
                     {name: tensor.to(dtype) for name, tensor in tensors.items()},
                     lambda part, path: write_safetensors(path, part))


def with_old_names(weights, conv_attention=False):
    """As files of 2022: the VAE's attention, position_ids, and the safety checker's doubled prefix."""
    def vae_name(name):
        for new, old in LEGACY_VAE.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        return name

    vae = {vae_name(name): tensor[..., None, None] if conv_attention and ".attentions.0.to" in name and tensor.dim() == 2
           else tensor for name, tensor in weights["vae"].items()}
    single = "vision_model.embeddings"
    doubled = {f"vision_model.{name}" if name.startswith("vision_model.") and not name.startswith("vision_model.vision_model.")
               else name: tensor for name, tensor in weights["safety_checker"].items()}
    positions = torch.arange(65).reshape(1, 65)
    return {"unet": weights["unet"], "vae": vae,
            "image_encoder": {**weights["image_encoder"], f"{single}.position_ids": positions},
            "safety_checker": {**doubled, f"vision_model.{single}.position_ids": positions}}


def pickle_name(component):
    return stem(component) if component in STEMS else "pytorch_model"


def write_pickled_folder(folder, weights, sharded=False):
    write_configs(folder)
    for component, tensors in weights.items():
        name = pickle_name(component)
        if sharded:
            write_shards(folder / component, f"{name}.bin.index.json", name + "-{}.bin", tensors, torch.save)
        else:
            torch.save(tensors, folder / component / f"{name}.bin")


def write_old_revision(folder, weights):
    """For lambda-diffusers: its pipeline's name, a full CLIPModel, no steps_offset."""
    write_pickled_folder(folder, with_old_names(weights))

    def edit(name, change):
        config = json.loads((folder / name).read_text())
        change(config)
        (folder / name).write_text(json.dumps(config))

    edit("model_index.json", lambda index: index.update(
        _class_name="StableDiffusionImageEmbedPipeline", image_encoder=["transformers", "CLIPModel"],
        feature_extractor=["transformers", "CLIPFeatureExtractor"]))
    edit("scheduler/scheduler_config.json", lambda config: [config.pop(key) for key in ("steps_offset", "timestep_spacing")])
    vision = json.loads((folder / "image_encoder/config.json").read_text())
    (folder / "image_encoder/config.json").write_text(json.dumps(
        {"model_type": "clip", "projection_dim": vision.pop("projection_dim"), "vision_config": {"hidden_size": 1},
         "vision_config_dict": {**vision, "projection_dim": 1}, "text_config": {}}))
    path = folder / "image_encoder/pytorch_model.bin"
    torch.save({**torch.load(path), "text_model.embeddings.token_embedding.weight": torch.zeros(2, 3),
                "text_projection.weight": torch.zeros(2, 2), "logit_scale": torch.zeros(())}, path)


def write_hub_cache(cache, weights):
    """org/repository with a branch and a tag; files are links to blobs."""
    repository = cache / "models--acme--bundled"
    write_safetensors_folder(repository / "plain", weights)
    snapshot = repository / "snapshots" / COMMIT
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(path for path in (repository / "plain").rglob("*") if path.is_file())):
        link = snapshot / path.relative_to(repository / "plain")
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(repository / "blobs" / f"{number:040}")
        link.symlink_to(Path(*[".."] * (len(link.relative_to(repository).parts) - 1)) / "blobs" / f"{number:040}")
    (repository / "refs").mkdir()
    (repository / "refs" / "v2.0").write_text(COMMIT)


# The original repository's names, in the other direction than tools/ldm_names.py and independently of it.

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def ldm_unet_name(name, layers, blocks):
    """layers: layers_per_block; blocks: how many."""
    part = name.split(".")
    fixed = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
             "conv_norm_out": "out.0", "conv_out": "out.2"}
    for new, old in fixed.items():
        if name.startswith(new + "."):
            return old + name.removeprefix(new)
    if part[0] == "mid_block":
        if part[1] == "attentions":
            return ".".join(["middle_block.1", *part[3:]])
        return ".".join([f"middle_block.{2 * int(part[2])}", RESNET[part[3]], *part[4:]])
    block, kind, index = int(part[1]), part[2], int(part[3])
    if part[0] == "down_blocks":
        first = 1 + block * (layers + 1)
        if kind == "downsamplers":
            return ".".join([f"input_blocks.{first + layers}.0.op", part[-1]])
        at = f"input_blocks.{first + index}"
    else:
        first = block * (layers + 1)
        if kind == "upsamplers":
            return first + layers, part[-1]  # its place depends on whether there is an attention
        at = f"output_blocks.{first + index}"
    if kind == "attentions":
        return ".".join([at, "1", *part[4:]])
    return ".".join([at, "0", RESNET[part[4]], *part[5:]])


def ldm_unet(tensors, layers, blocks):
    renamed, upsamplers = {}, []
    for name, tensor in tensors.items():
        new = ldm_unet_name(name, layers, blocks)
        if isinstance(new, tuple):
            upsamplers.append((new, tensor))
        else:
            renamed[new] = tensor
    for (at, end), tensor in upsamplers:
        slot = 2 if f"output_blocks.{at}.1.norm.weight" in renamed else 1
        renamed[f"output_blocks.{at}.{slot}.conv.{end}"] = tensor
    return {f"model.diffusion_model.{name}": tensor for name, tensor in renamed.items()}


def ldm_vae(tensors, blocks):
    renamed = {}
    for name, tensor in tensors.items():
        if ".attentions.0.to_" in name and name.endswith("weight"):
            tensor = tensor[..., None, None]
        for new, old in (("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"),
                         ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"), ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
                         ("mid_block.attentions.0.to_k", "mid.attn_1.k"), ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
                         ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"), ("conv_norm_out", "norm_out"),
                         ("conv_shortcut", "nin_shortcut"), ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample"),
                         ("resnets", "block"), ("down_blocks", "down")):
            name = name.replace(new, old)
        if ".up_blocks." in name:
            head, rest = name.split(".up_blocks.")
            index, rest = rest.split(".", 1)
            name = f"{head}.up.{blocks - 1 - int(index)}.{rest}"
        renamed[f"first_stage_model.{name}"] = tensor
    return renamed


def openai_tower(tensors):
    renamed = {}
    for name, tensor in tensors.items():
        for new, old in (("vision_model.embeddings.patch_embedding", "conv1"), ("vision_model.embeddings.class_embedding", "class_embedding"),
                         ("vision_model.embeddings.position_embedding.weight", "positional_embedding"),
                         ("vision_model.pre_layrnorm", "ln_pre"), ("vision_model.post_layernorm", "ln_post"),
                         ("vision_model.encoder.layers", "transformer.resblocks"), ("layer_norm", "ln_"),
                         ("self_attn.out_proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
            name = name.replace(new, old)
        if name == "visual_projection.weight":
            renamed["proj"] = tensor.t().contiguous()
        elif ".self_attn.q_proj." in name:
            parts = [tensors["vision_model.encoder.layers" + name.removeprefix("transformer.resblocks").replace("q_proj", f"{x}_proj")]
                     for x in "qkv"]
            renamed[name.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)
        elif ".self_attn." not in name:
            renamed[name] = tensor
    return {f"cond_stage_model.model.visual.{name}": tensor for name, tensor in renamed.items()}


def write_ldm_checkpoint(path, weights):
    """As training left it: other things beside the weights, the averaged ones among them."""
    def sizes(component):
        config = json.loads((MODEL / component / "config.json").read_text())
        return config["layers_per_block"], len(config["block_out_channels"])
    unet = ldm_unet(weights["unet"], *sizes("unet"))
    averaged = {"model_ema." + name.removeprefix("model.").replace(".", ""): tensor + 1 for name, tensor in unet.items()}
    scaling = json.loads((MODEL / "vae/config.json").read_text())["scaling_factor"]
    torch.save({"epoch": 3, "global_step": 7, "state_dict": {
        **unet, **averaged, **ldm_vae(weights["vae"], sizes("vae")[1]), **openai_tower(weights["image_encoder"]),
        "model_ema.decay": torch.tensor(0.9999), "betas": torch.zeros(1000), "scale_factor": torch.tensor(scaling),
        "cond_stage_model.model.logit_scale": torch.zeros(()), "first_stage_model.loss.logvar": torch.zeros(())}}, path)
