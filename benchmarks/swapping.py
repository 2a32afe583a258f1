"""Swap the activations of models of torchvision, timm and transformers, with random weights.

Run ``python -m benchmarks.swapping`` where the three packages are installed; it writes
docs/swapping-coverage.md.
"""

from __future__ import annotations

import argparse
import ast
import collections
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.utils._python_dispatch import TorchDispatchMode

import actlab
from actlab.models import find_activations
from actlab.models.forward_calls import Call
from actlab.models.places import Place
from benchmarks.measuring import machine

PAGE = Path(__file__).parents[1] / "docs" / "swapping-coverage.md"
PACKAGES = ("torchvision", "timm", "transformers")
TOLERANCE = 1e-6  # relative
# The operations of torch that a swap of every activation may leave only at reported places.
OPERATIONS = {
    *("relu gelu silu mish hardswish hardsigmoid sigmoid tanh softplus elu leaky_relu hardtanh celu".split()),
    *("selu log_sigmoid_forward glu _prelu_kernel rrelu_with_noise threshold relu6 erf".split()),
    *("_softmax _log_softmax lstm gru rnn_tanh rnn_relu mkldnn_rnn_layer".split()),
    *("_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math".split()),
    *("_native_multi_head_attention _transformer_encoder_layer_fwd".split()),
}
TORCHVISION = (
    "alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 mnasnet0_5 mobilenet_v2 "
    "mobilenet_v3_small regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t "
    "swin_v2_t vit_b_32 lraspp_mobilenet_v3_large r3d_18 raft_small ssdlite320_mobilenet_v3_large "
    "fasterrcnn_mobilenet_v3_large_320_fpn"
).split()
TIMM = (
    "halonet26t test_byobnet cait_xxs24_224 convit_tiny test_convnext cpubone_nano cs3darknet_s "
    "cspnext_tiny davit_tiny deit_tiny_patch16_224 efficientformer_l1 test_efficientnet efficientvim_m1 "
    "efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fastvit_s12 ghostnet_050 hgnet_tiny "
    "hiera_tiny_224 inception_next_atto lcnetv2_small test_mambaout test_maxvit caformer_s18 "
    "gmlp_s16_224 tf_mobilenetv3_large_minimal_100 mobilevit_xxs mvitv2_tiny nest_tiny test_nfnet "
    "pit_xs_224 pvt_v2_b0 repghostnet_050 repvit_m1 resnest14d test_resnet resnetv2_18 rexnet_100 "
    "selecsls42 sequencer2d_s skresnet18 legacy_seresnet18 shvit_s1 starnet_s050 swiftformer_xs "
    "tiny_vit_5m_224 test_vit test_vit_relpos ese_vovnet19b_slim xcit_nano_12_p8_224"
).split()
TRANSFORMERS = (
    "albert audio-spectrogram-transformer bart beit bert big_bird bitnet bloom clip_text_model "
    "clip_vision_model deberta deberta-v2 deit dinov2 distilbert electra esm falcon_mamba fnet gemma "
    "gemma2 glm gpt2 gpt_neox gpt_oss gptj granite llama llama4_text longformer mamba mistral mixtral "
    "mobilebert mobilenet_v2 modernbert moonshine mpnet mpt nemotron olmo2 opt persimmon phi phi3 qwen2 "
    "qwen3 roberta roformer rwkv segformer squeezebert switch_transformers t5 vilt vit whisper xlm"
).split()
# The sizes of the configurations of transformers.
SMALL: dict[str, Any] = {
    **dict.fromkeys("hidden_size d_model n_embd dim embedding_size word_embed_proj_dim emb_dim".split(), 32),
    **dict.fromkeys("num_hidden_layers n_layer num_layers n_layers encoder_layers decoder_layers".split(), 2),
    **dict.fromkeys("num_attention_heads n_head num_heads n_heads num_key_value_heads".split(), 2),
    **dict.fromkeys("encoder_attention_heads decoder_attention_heads num_local_experts".split(), 2),
    **dict.fromkeys("num_experts n_routed_experts".split(), 2),
    **dict.fromkeys("intermediate_size d_ff encoder_ffn_dim decoder_ffn_dim ffn_dim hidden_dim".split(), 40),
    **{"d_inner": 40, "d_kv": 16, "head_dim": 16, "moe_intermediate_size": 16, "num_experts_per_tok": 1},
    **{"vocab_size": 99, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    **{"image_size": 32, "patch_size": 8, "max_position_embeddings": 64, "rotary_dim": 8},
}
_PAGE = """\
# Swapping in pretrained models

`actlab.swap` was applied to {models} models from torchvision, timm and transformers. {summary}

{machine}; {versions}. Written by `python -m benchmarks.swapping`.

No weights were loaded: the weights are random, and the models from transformers have small configurations.
The model's code decides what can be swapped, not its weights. Each model was run in evaluation mode and in
float64, or in float32 if its code mixes the two:

- *Places* are the rows of `find_activations(model)`. A call in a branch that this configuration does not
  execute counts as a place.
- *Replaced* places, including gates, received `sin` instead. *Reported* places cannot be replaced; the table
  of `find_activations` gives the reason.
- *Missed* counts the operations of torch that compute an activation after this swap, outside reported places.
  They were recorded while the model ran.
- *Changed* states whether the outputs differ after this swap.
- For *difference*, every activation was swapped for actlab's version of the same function, with the same
  parameters. It is the largest difference of the outputs, relative to the largest output. *Exact* means that
  all bits are equal. Not all activations have such a function in the catalogue; *same* is the number that do.
- *Weights* states whether the swapped model has the same `state_dict`.

{tables}

## Reasons

{reasons}
"""


@dataclass(frozen=True)
class Row:
    """The outcome of one model."""

    name: str
    places: int
    replaced: int
    reported: Mapping[str, int]
    missed: int
    changed: bool
    same: int
    difference: float
    keeps_weights: bool


# -- models -----------------------------------------------------------------------------------------------


def build_torchvision(name: str) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    """Return a model and the function that runs it."""
    models = importlib.import_module("torchvision.models")
    arguments: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if "rcnn" in name:  # otherwise it returns no boxes
        arguments["box_score_thresh"] = 0.0
    if "fpn" in name or "resnet50" in name or "large" in name:
        arguments |= {"weights_backbone": None} if name != "wide_resnet50_2" else {}
    model = models.get_model(name, weights=None, **arguments)
    if "raft" in name:
        return model, lambda m: m(*random_inputs((1, 3, 128, 128), (1, 3, 128, 128)))
    if "ssd" in name:  # without the choice of boxes, which depends on the order of nearly equal scores
        return model, lambda m: m.head([*m.backbone(*random_inputs((1, 3, 128, 128))).values()])
    if "rcnn" in name:
        return model, lambda m: m([random_inputs((3, 128, 128))[0]])
    shape = (1, 3, 4, 64, 64) if "3d" in name else (1, 3, 224, 224)
    return model, lambda m: m(*random_inputs(shape))


def build_timm(name: str) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    """Return a model and the function that runs it."""
    model = importlib.import_module("timm").create_model(name, pretrained=False)
    shape = (1, *model.default_cfg["input_size"])
    return model, lambda m: m(*random_inputs(shape))


def build_transformers(name: str) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    """Return a small model and the function that runs it."""
    auto = importlib.import_module("transformers.models.auto")
    config_class, classes = auto.configuration_auto.CONFIG_MAPPING[name], auto.modeling_auto.MODEL_MAPPING
    default = config_class()
    sizes = {
        key: value
        for key, value in SMALL.items()
        if hasattr(default, key) and not isinstance(getattr(default, key), list | tuple | dict)
    }
    config = config_class(**sizes)
    found = classes[config_class]
    model = (found[0] if isinstance(found, tuple) else found)(config)
    size = getattr(config, "image_size", 64)
    pixels = (1, getattr(config, "num_channels", 3), size, size)
    if model.main_input_name == "pixel_values":
        pixels = (1, config.num_frames, *pixels[1:]) if hasattr(config, "num_frames") else pixels
        return model, lambda m: m(pixel_values=random_inputs(pixels)[0])
    if model.main_input_name in ("input_values", "input_features"):
        shape = (1, getattr(config, "max_length", 60), getattr(config, "num_mel_bins", 80))
        if name == "whisper":
            shape = (1, 80, 3000)
        if name == "moonshine":
            shape = (1, 2000)  # type: ignore[assignment]
    tokens = {"input_ids": torch.arange(3, 11)[None]}
    tokens |= {"decoder_input_ids": tokens["input_ids"]} if config.is_encoder_decoder else {}
    if name == "vilt":
        return model, lambda m: m(**tokens, pixel_values=random_inputs(pixels)[0])
    if model.main_input_name == "input_ids":
        return model, lambda m: m(**tokens)
    decoder = {k: v for k, v in tokens.items() if k.startswith("decoder")}
    return model, lambda m: m(**{model.main_input_name: random_inputs(shape)[0]}, **decoder)


BUILDERS = {
    "torchvision": (build_torchvision, TORCHVISION),
    "timm": (build_timm, TIMM),
    "transformers": (build_transformers, TRANSFORMERS),
}


def random_inputs(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Return normal inputs of the default dtype, the same ones at each call."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def seeded(run: Callable[[nn.Module], Any], model: nn.Module) -> Any:
    """Run a model with the same random numbers at each call: some choose patches at random."""
    torch.manual_seed(2)
    return run(model)


def flatten(output: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in the output of a model."""
    if isinstance(output, Tensor):
        yield from [output.detach()] if output.is_floating_point() else []
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from flatten(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from flatten(value)


# -- swaps ------------------------------------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    """Records the operations that compute activations, by the path of the module that calls them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.paths = {module: path for path, module in model.named_modules()}
        self.stack: list[nn.Module] = []
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.partition("::")[2].removesuffix("_")
        if name in OPERATIONS:
            known = (self.paths[module] for module in reversed(self.stack) if module in self.paths)
            self.counts[next(known, ""), name] += 1
        return func(*args, **(kwargs or {}))

    def run(self, call: Callable[[], Any]) -> Any:
        """Return the output of a call, and record its operations."""
        before = module_hooks.register_module_forward_pre_hook(lambda m, _: self.stack.append(m))
        after = module_hooks.register_module_forward_hook(lambda *_: void(self.stack.pop()), always_call=True)
        try:
            with self:
                return call()
        finally:
            before.remove()
            after.remove()


def void(_: object) -> None:
    """Return None, which keeps the output of a forward."""


def count_missed(counts: Mapping[tuple[str, str], int], reported: list[Place]) -> int:
    """Return how many operations are outside of the modules of reported places."""
    paths = {place.parent_path if isinstance(place.target, Call) else place.path for place in reported}
    return sum(n for (path, _), n in counts.items() if path not in paths)


def make_equivalent(place: Place) -> Callable[[Tensor], Tensor] | None:
    """Return the function of actlab with the parameters of an activation; None if there is none."""
    if place.activation == "QuickGELUActivation":
        return lambda x: actlab.functional.swish(x, 1.702)
    if place.kind.activation is None:
        return None
    function: Any = getattr(actlab.functional, place.activation)
    names = list(function.parameters)
    values: dict[str, Any] = {}
    if isinstance(place.target, Call) and isinstance(place.target.node, ast.Call):
        call = place.target.node
        skipped = 1 if place.target.argument in call.args else 0
        given = [*zip(names, call.args[skipped:], strict=False), *((k.arg, k.value) for k in call.keywords)]
        try:
            values = {n: ast.literal_eval(v) for n, v in given if n in names}
        except ValueError:
            return None
    elif not isinstance(place.target, Call):
        values = {name: getattr(place.module, name) for name in names if hasattr(place.module, name)}
    if place.activation == "gelu" and "approximate" not in values and not isinstance(place.target, Call):
        x = torch.linspace(-3, 3, 50)
        exact = torch.allclose(place.module(x), nn.functional.gelu(x), atol=1e-6)
        values["approximate"] = "none" if exact else "tanh"
    return lambda x: function(x, **values)


def run_model(package: str, name: str, dtype: torch.dtype = torch.float64) -> Row:
    """Swap the activations of a model."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    model, run = BUILDERS[package][0](name)
    for weight in model.eval().parameters():
        if not weight.any():  # the outputs would not depend on the activations
            nn.init.normal_(weight, std=0.02)
    expected = list(flatten(seeded(run, model)))
    if not all(bool(tensor.isfinite().all()) for tensor in expected):
        raise ValueError("its outputs are not finite")
    places = find_activations(model)
    able = [place for place in places if place.is_elementwise and not place.problem]
    equivalents = {p.path: function for p in able if (function := make_equivalent(p))}
    output = list(flatten(seeded(run, actlab.swap(model, equivalents)))) if equivalents else expected
    scale = max(float(tensor.abs().max()) for tensor in expected if tensor.numel())
    differences = [float((a - b).abs().max()) for a, b in zip(output, expected, strict=True) if a.numel()]
    swapped = actlab.swap(model, {place.path: torch.sin for place in able}) if able else model
    recorder = Recorder(swapped)
    other = list(flatten(recorder.run(lambda: seeded(run, swapped))))
    changed = [a.shape != b.shape or not torch.equal(a, b) for a, b in zip(other, expected, strict=False)]
    reported = [place for place in places if place not in able]
    return Row(
        name if dtype == torch.float64 else f"{name} (float32)",
        len(places),
        len(able),
        collections.Counter(place.problem or place.reason for place in reported),
        count_missed(recorder.counts, reported),
        any(changed),
        len(equivalents),
        max(differences) / scale,
        list(swapped.state_dict()) == list(model.state_dict()),
    )


# -- the page ---------------------------------------------------------------------------------------------


def format_table(package: str, rows: list[Row]) -> str:
    """Return the table of a package."""
    heads = "model places replaced same difference reported missed changed weights".split()
    lines = [f"## {package}", "", f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for row in rows:
        difference = "exact" if row.difference == 0 else f"{row.difference:.1e}"
        cells = [row.name, row.places, row.replaced, row.same, difference, sum(row.reported.values())]
        cells += [row.missed, *("yes" if value else "no" for value in (row.changed, row.keeps_weights))]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def format_page(rows: Mapping[str, list[Row]], failed: list[str]) -> str:
    """Return the page."""
    every = [row for package in rows.values() for row in package]
    reasons: collections.Counter[str] = collections.Counter()
    for row in every:
        reasons.update(row.reported)
    worst = max(every, key=lambda row: row.difference)
    missed = [row.name for row in every if row.missed]
    summary = (
        f"They have {sum(row.places for row in every):,} places with an activation: "
        f"{sum(row.replaced for row in every):,} were replaced, and {sum(reasons.values()):,} were reported "
        f"as not replaceable. {', '.join(missed) or 'No model'} computed an activation outside these places. "
        f"The largest relative difference of outputs is {worst.difference:.1e}, in {worst.name}."
    )
    if unchanged := [row.name for row in every if not row.changed]:
        summary += f" The outputs of {' and '.join(unchanged)} did not change, because all activations that "
        summary += "they compute are reported as not replaceable."
    if failed:
        summary += f" {len(failed)} models could not be run: {'; '.join(failed)}."
    table = ["| reason | places |", "|---|--:|"]
    table += [f"| {reason} | {count} |" for reason, count in reasons.most_common()]
    versions = ", ".join(f"{name} {importlib.import_module(name).__version__}" for name in PACKAGES)
    return _PAGE.format(
        models=len(every),
        summary=summary,
        machine=machine("cpu"),
        versions=versions,
        tables="\n\n".join(format_table(package, found) for package, found in rows.items()),
        reasons="\n".join(table),
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PAGE, help="path of the page to write")
    parser.add_argument("--only", help="one model, printed")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")
    importlib.import_module("transformers").logging.set_verbosity_error()
    rows: dict[str, list[Row]] = {package: [] for package in BUILDERS}
    failed = []
    for package, (_, names) in BUILDERS.items():
        for name in [name for name in names if arguments.only in (None, name)]:
            try:
                try:
                    row = run_model(package, name)
                except RuntimeError:  # its code has parts in float32
                    row = run_model(package, name, torch.float32)
            except Exception as error:
                failed.append(f"{name} ({type(error).__name__})")
                print(f"{package} {name}: {type(error).__name__}: {error}", flush=True)
            else:
                rows[package].append(row)
                print(package, row, flush=True)
    if not arguments.only:
        arguments.out.write_text(format_page(rows, failed), encoding="utf-8")
        print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
