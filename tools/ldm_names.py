"""Names of the original Stable Diffusion repository (LDM) and of OpenAI's CLIP, as diffusers and transformers have them.

rename(state) is what tools/convert_checkpoint.py needs of it. Nothing here knows sizes: blocks are found by walking the
names, so every model of the family can be renamed, whatever its channels and layers.
"""
import re

UNET, VAE, TOWER = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model.visual."
# Training state, and the text half of CLIP.
IGNORED = re.compile(
    r"(betas|alphas_cumprod|sqrt_|log_|posterior_|lvlb_weights|logvar|scale_factor$|model_ema\.|first_stage_model\.loss\."
    r"|cond_stage_model\.(mean|std|model\.(transformer\.|token_embedding|ln_final|text_projection|positional_embedding"
    r"|logit_scale)))")

UNET_RESNET = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
               "out_layers.3": "conv2", "skip_connection": "conv_shortcut"}
VAE_RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
TOWER_LAYER = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
               "mlp.c_proj": "mlp.fc2"}
TOWER_PARTS = {"class_embedding": "vision_model.embeddings.class_embedding",
               "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
               "positional_embedding": "vision_model.embeddings.position_embedding.weight",
               **{f"ln_pre.{end}": f"vision_model.pre_layrnorm.{end}" for end in ("weight", "bias")},
               **{f"ln_post.{end}": f"vision_model.post_layernorm.{end}" for end in ("weight", "bias")}}


def unet_modules(names):
    """{LDM module: diffusers module}, found by walking the blocks in the order in which they run."""
    def count(prefix):
        return 1 + max((int(name.split(".")[1]) for name in names if name.startswith(prefix)), default=-1)

    def resnet(ldm, new):
        return {f"{ldm}.{old}": f"{new}.{part}" for old, part in UNET_RESNET.items()}

    modules = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
               "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
               "middle_block.1": "mid_block.attentions.0",
               **resnet("middle_block.0", "mid_block.resnets.0"), **resnet("middle_block.2", "mid_block.resnets.1")}
    block = layer = 0
    for i in range(1, count("input_blocks.")):
        old, new = f"input_blocks.{i}", f"down_blocks.{block}"
        if f"{old}.0.op.weight" in names:
            modules[f"{old}.0.op"] = f"{new}.downsamplers.0.conv"
            block, layer = block + 1, 0
            continue
        modules |= {**resnet(f"{old}.0", f"{new}.resnets.{layer}"), f"{old}.1": f"{new}.attentions.{layer}"}
        layer += 1
    block = layer = 0
    for i in range(count("output_blocks.")):
        old, new = f"output_blocks.{i}", f"up_blocks.{block}"
        modules |= {**resnet(f"{old}.0", f"{new}.resnets.{layer}"), f"{old}.1": f"{new}.attentions.{layer}"}
        layer += 1
        for slot in (1, 2):  # behind the attention, if there is one
            if f"{old}.{slot}.conv.weight" in names:
                modules[f"{old}.{slot}.conv"] = f"{new}.upsamplers.0.conv"
                block, layer = block + 1, 0
    return modules


def vae_modules(names):
    levels = 1 + max((int(match[1]) for match in map(re.compile(r"decoder\.up\.(\d+)\.").match, names) if match), default=-1)
    modules = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        modules |= {f"{half}.conv_in": f"{half}.conv_in", f"{half}.conv_out": f"{half}.conv_out",
                    f"{half}.norm_out": f"{half}.conv_norm_out"}
        blocks = [(f"{half}.mid.block_{i + 1}", f"{half}.mid_block.resnets.{i}") for i in (0, 1)]
        for old, new in VAE_ATTENTION.items():
            modules[f"{half}.mid.attn_1.{old}"] = f"{half}.mid_block.attentions.0.{new}"
        for level in range(levels):
            # LDM numbers the decoder's levels from the finest, diffusers from the first that runs.
            old, new = ((f"encoder.down.{level}", f"encoder.down_blocks.{level}") if half == "encoder" else
                        (f"decoder.up.{level}", f"decoder.up_blocks.{levels - 1 - level}"))
            modules |= {f"{old}.downsample.conv": f"{new}.downsamplers.0.conv",
                        f"{old}.upsample.conv": f"{new}.upsamplers.0.conv"}
            layers = {int(name.split(".")[4]) for name in names if name.startswith(f"{old}.block.")}
            blocks += [(f"{old}.block.{i}", f"{new}.resnets.{i}") for i in layers]
        for old, new in blocks:
            modules |= {f"{old}.{part}": f"{new}.{new_part}" for part, new_part in VAE_RESNET.items()}
    return modules


def rename_modules(tensors, modules, unknown, prefix):
    """Tensors under diffusers' names; what no module explains goes to `unknown`."""
    renamed = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        for end in range(len(parts) - 1, 0, -1):
            module = modules.get(".".join(parts[:end]))
            if module:
                renamed[".".join([module, *parts[end:]])] = tensor
                break
        else:
            unknown.append(prefix + name)
    return renamed


def rename_vae(tensors, unknown):
    renamed = rename_modules(tensors, vae_modules(tensors), unknown, VAE)
    # 1x1 convolutions there, linear layers here.
    return {name: tensor.flatten(1) if ".attentions.0.to_" in name and name.endswith(".weight") else tensor
            for name, tensor in renamed.items()}


def rename_tower(tensors, unknown):
    """OpenAI's vision tower: fused query, key and value, and a transposed projection."""
    renamed = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", name)
        layer = f"vision_model.encoder.layers.{match[1]}" if match else ""
        if name == "proj":
            renamed["visual_projection.weight"] = tensor.t()
        elif name in TOWER_PARTS:
            renamed[TOWER_PARTS[name]] = tensor
        elif match and match[2] == "attn.in_proj":
            for part, third in zip("qkv", tensor.chunk(3)):
                renamed[f"{layer}.self_attn.{part}_proj.{match[3]}"] = third
        elif match and match[2] in TOWER_LAYER:
            renamed[f"{layer}.{TOWER_LAYER[match[2]]}.{match[3]}"] = tensor
        else:
            unknown.append(TOWER + name)
    return renamed


def rename(state, ema=False):
    """({component: {name: tensor}}, names that nothing here knows). ema: the UNet's averaged weights, where there are."""
    parts = {prefix: {} for prefix in (UNET, VAE, TOWER)}
    unknown = []
    for name, tensor in state.items():
        prefix = next((prefix for prefix in parts if name.startswith(prefix)), None)
        if IGNORED.match(name):
            continue
        if prefix is None:
            unknown.append(name)
            continue
        if ema and prefix == UNET:
            tensor = state.get("model_ema." + name.removeprefix("model.").replace(".", ""), tensor)
        parts[prefix][name.removeprefix(prefix)] = tensor
    components = {"unet": rename_modules(parts[UNET], unet_modules(parts[UNET]), unknown, UNET),
                  "vae": rename_vae(parts[VAE], unknown), "image_encoder": rename_tower(parts[TOWER], unknown)}
    return components, unknown
