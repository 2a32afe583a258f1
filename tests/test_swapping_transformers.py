"""swap in Hugging Face models, created from small configurations with random weights."""

import copy
import csv
import functools
import importlib
import io
import json

import pytest
import torch
from torch import nn

from actlab import swap
from actlab.models import find_activations
from tests.command_line import actlab
from tests.swaps import list_paths, one_thread, pickle_and_load

__all__ = ["one_thread"]

HIDDEN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
WORDS = {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
DECODER = {**HIDDEN, **WORDS, "num_key_value_heads": 2, "head_dim": 16}
IMAGE = {"image_size": 32, "patch_size": 8}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 40, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
MIXTRAL = {"num_local_experts": 2, "num_experts_per_tok": 1}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 3}
MOBILE = {"hidden_sizes": [16, 20, 24], "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 32]}
TWO_SIDES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40,
}  # fmt: skip
WHISPER = {**WORDS, **TWO_SIDES, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 32}
SOUND = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_conv_pos_embeddings": 4}

# Model, configuration class, its arguments, the argument for the activation, its value, and the name of
# the activation in actlab.
MODELS = {
    "bert": (
        "BertForSequenceClassification", "BertConfig", {**HIDDEN, **WORDS}, "hidden_act", "gelu", "gelu",
    ),
    "gpt2": (
        "GPT2LMHeadModel", "GPT2Config", {**WORDS, "n_embd": 32, "n_layer": 2, "n_head": 2},
        "activation_function", "gelu_new", "gelu",
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", DECODER, "hidden_act", "silu", "silu"),
    "distilbert": (
        "DistilBertForMaskedLM", "DistilBertConfig",
        {**WORDS, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 40}, "activation", "gelu", "gelu",
    ),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", DECODER, "hidden_act", "silu", "silu"),
    "t5": ("T5ForConditionalGeneration", "T5Config", {**WORDS, **T5}, "feed_forward_proj", "relu", "relu"),
    "vit": ("ViTForImageClassification", "ViTConfig", {**HIDDEN, **IMAGE}, "hidden_act", "gelu", "gelu"),
    "convnext": (
        "ConvNextForImageClassification", "ConvNextConfig",
        {**STAGES, "num_stages": 2, "layer_scale_init_value": 1.0},
        "hidden_act", "gelu", "gelu",
    ),
    "mobilevit": (
        "MobileViTForImageClassification", "MobileViTConfig",
        {**MOBILE, "image_size": 64, "num_attention_heads": 2}, "hidden_act", "silu", "silu",
    ),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**DECODER, **MIXTRAL}, "hidden_act", "silu", "silu"),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", DECODER, "hidden_act", "gelu_pytorch_tanh", "gelu"),
    "clip": (
        "CLIPVisionModel", "CLIPVisionConfig", {**HIDDEN, **IMAGE}, "hidden_act", "quick_gelu",
        "QuickGELUActivation",
    ),
    "wav2vec2": (
        "Wav2Vec2ForSequenceClassification", "Wav2Vec2Config",
        {**HIDDEN, **WORDS, **SOUND, "num_conv_pos_embedding_groups": 2}, "hidden_act", "silu", "silu",
    ),
    "opt": (
        "OPTForCausalLM", "OPTConfig",
        {**WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 40},
        "activation_function", "relu", "relu",
    ),
    "bart": (
        "BartForConditionalGeneration", "BartConfig", {**WORDS, **TWO_SIDES}, "activation_function",
        "gelu", "gelu",
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM", "GPTNeoXConfig", {**HIDDEN, **WORDS}, "hidden_act", "gelu_fast", "gelu",
    ),
    "nemotron": ("NemotronForCausalLM", "NemotronConfig", DECODER, "hidden_act", "relu2", "relu_squared"),
    "swin": (
        "SwinForImageClassification", "SwinConfig",
        {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2],
         "window_size": 4},
        "hidden_act", "gelu", "gelu",
    ),
}  # fmt: skip
FAST = ("bert", "gpt2", "llama")
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


@pytest.fixture(scope="module", autouse=True)
def transformers():
    """Import the package without its messages about missing packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFORMERS_VERBOSITY", "error")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield importlib.import_module("transformers")


def create_model(name, activation=None):
    """Create a model with weights that are large enough for the activation to change the output."""
    package = importlib.import_module("transformers")
    model, config, arguments, argument, default, _ = MODELS[name]
    torch.manual_seed(0)
    create_model = getattr(package, model)(
        getattr(package, config)(**arguments, **{argument: activation or default})
    )
    for weight in create_model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.3)
    return create_model.eval()


def inputs_for(model):
    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == "pixel_values":
        size = model.config.image_size if hasattr(model.config, "image_size") else 32
        return {"pixel_values": torch.randn(2, 3, size, size, generator=generator)}
    if model.main_input_name == "input_values":
        return {"input_values": torch.randn(2, 400, generator=generator)}
    token_ids = {"input_ids": torch.randint(5, 90, (2, 7), generator=generator)}
    token_ids["attention_mask"] = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    if model.config.is_encoder_decoder:
        token_ids["decoder_input_ids"] = token_ids["input_ids"].flip(1)
    return token_ids


def output_of(model, **more):
    with torch.no_grad():
        result = model(**inputs_for(model), **more)
    return result.logits if hasattr(result, "logits") else result.last_hidden_state


@functools.cache
def swapped_and_configured(name):
    """Return a model with mish swapped in, and the model whose configuration has mish."""
    model, key = create_model(name), MODELS[name][-1]
    written = create_model(name, "mish")
    written.load_state_dict(model.state_dict())
    return swap(model, {key: "mish"}), written


@pytest.mark.parametrize("name", NAMES)
def test_swap_in_a_transformers_model_equals_its_configuration(name):
    model, (swapped, written) = create_model(name), swapped_and_configured(name)
    assert type(swapped) is type(model)
    assert list(swapped.state_dict()) == list(model.state_dict())
    torch.testing.assert_close(output_of(swapped), output_of(written), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(output_of(swapped), output_of(model), rtol=1e-3, atol=1e-6)
    parts = {path: (part, written.get_submodule(path)) for path, part in model.named_modules()}
    replaced = {path for path, (a, b) in parts.items() if type(a).__name__ != type(b).__name__}
    assert replaced
    assert set(list_paths(model)[MODELS[name][-1]]) == replaced
    assert set(list_paths(swapped)["mish"]) == replaced


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
def test_swap_keeps_generation_with_a_cache_correct():
    swapped, written = swapped_and_configured("gpt2")
    token_ids = torch.randint(5, 90, (2, 4), generator=torch.Generator().manual_seed(2))
    options = {"attention_mask": torch.ones_like(token_ids), "max_new_tokens": 6, "do_sample": False}
    cached = swapped.generate(token_ids, use_cache=True, **options)
    assert torch.equal(cached, swapped.generate(token_ids, use_cache=False, **options))
    assert torch.equal(cached, written.generate(token_ids, use_cache=True, **options))
    with torch.no_grad():
        past = swapped(token_ids[:, :3], use_cache=True).past_key_values
        last = swapped(token_ids[:, 3:], past_key_values=past).logits[:, -1]
        torch.testing.assert_close(last, written(token_ids).logits[:, -1], rtol=1e-4, atol=1e-5)


def test_swap_in_a_transformers_model_trains_like_its_configuration():
    swapped, written = copy.deepcopy(swapped_and_configured("bert"))
    for model in (swapped, written):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(**inputs_for(model), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    for name, weight in written.named_parameters():
        torch.testing.assert_close(swapped.get_parameter(name), weight, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(output_of(swapped), output_of(swapped_and_configured("bert")[0]), atol=1e-3)


@pytest.mark.parametrize("again", [copy.deepcopy, pickle_and_load])
def test_swap_result_of_transformers_can_be_copied_pickled_and_saved(again):
    swapped, _ = swapped_and_configured("llama")
    expected = output_of(swapped)
    assert torch.equal(output_of(again(swapped)), expected)
    torch.save(swapped.state_dict(), file := io.BytesIO())
    file.seek(0)
    fresh = swap(create_model("llama"), {"silu": "mish"})
    nn.init.zeros_(fresh.lm_head.weight)
    fresh.load_state_dict(torch.load(file))
    assert torch.equal(output_of(fresh), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gelu", "gelu"),
        ("gelu_python", "gelu"),
        ("gelu_new", "gelu"),
        ("gelu_accurate", "gelu"),
        ("gelu_python_tanh", "gelu"),
        ("swish", "silu"),
        ("mish", "mish"),
        ("relu2", "relu_squared"),
        ("leaky_relu", "leaky_relu"),
        ("quick_gelu", "QuickGELUActivation"),
        ("gelu_10", "ClippedGELUActivation"),
        ("laplace", "LaplaceActivation"),
        ("xielu", "XIELUActivation"),
        ("linear", None),
    ],
)
def test_find_activations_names_transformers_activations_by_function(name, expected):
    act = importlib.import_module("transformers.activations").ACT2FN[name]
    model = nn.Sequential(nn.Linear(4, 4), act)
    assert list_paths(model) == ({expected: ["1"]} if expected else {})
    for key in [expected, type(act)] if expected else []:
        assert isinstance(swap(model, {key: nn.Tanh})[1], nn.Tanh)


@pytest.mark.slow
def test_swap_replaces_activations_missing_in_the_configuration(transformers):
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES)
    model = transformers.ResNetForImageClassification(config).eval()
    written = copy.deepcopy(model)
    for path, part in model.named_modules():
        if type(part) is nn.ReLU:
            written.set_submodule(path, nn.Mish())
    swapped = swap(model, {"relu": "mish"})
    torch.testing.assert_close(output_of(swapped), output_of(written), rtol=1e-4, atol=1e-6)
    assert list(list_paths(swapped)) == ["mish"]


@pytest.mark.slow
def test_swap_replaces_calls_in_the_forward_of_a_transformers_model(transformers):
    from transformers.activations import GELUActivation

    def create_model(activation):
        return transformers.WhisperModel(
            transformers.WhisperConfig(activation_function=activation, **WHISPER)
        )

    model, written = create_model("gelu").eval(), create_model("mish").eval()
    assert any(place.code.startswith("F.gelu, modeling_whisper.py:") for place in find_activations(model))
    swapped, everywhere = swap(model, {GELUActivation: "mish"}), swap(model, {"gelu": "mish"})
    written.load_state_dict(model.state_dict())
    sound = {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": torch.randint(5, 90, (2, 7))}
    with torch.no_grad():
        result, expected = swapped(**sound), written(**sound)
        torch.testing.assert_close(result.last_hidden_state, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.functional, "gelu", torch.nn.functional.mish)
            expected = written(**sound)
        result = everywhere(**sound)
    torch.testing.assert_close(result.last_hidden_state, expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    assert list(list_paths(everywhere)) == ["mish"]


OWN = """
from torch import nn
from transformers import {0}Config, {0}ForImageClassification


class Network(nn.Module):
    def __init__(self, num_classes, image_shape):
        super().__init__()
        self.image_shape = image_shape
        config = {0}Config(num_channels=image_shape[0], num_labels=num_classes, {1})
        self.model = {0}ForImageClassification(config)

    def forward(self, x):
        return self.model(pixel_values=x.reshape(-1, *self.image_shape)).logits
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("ResNet", "embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type='basic'"),
        ("ViT", f"image_size=8, patch_size=2, {', '.join(f'{k}={v}' for k, v in HIDDEN.items())}"),
    ],
)
def test_compare_replaces_the_activations_of_a_transformers_model(kind, arguments, tmp_path):
    (tmp_path / "network.py").write_text(OWN.format(kind, arguments))
    call = [*"compare --no-tune relu mish --data digits --module network.py:Network --folds 2".split()]
    call += ["--epochs", "1", "--lr", "0.05", "--out", "out", "--json"]
    first = actlab(*call, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    ranking = json.loads(first.stdout)["ranking"]
    assert {row["activation"] for row in ranking} == {"relu", "mish"}
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["failure"] for row in rows] == [""] * 4
    assert len({row["loss"] for row in rows}) == 4
    again = actlab(*call, cwd=tmp_path)
    assert json.loads(again.stdout)["ranking"] == ranking
