"""--fit of a model of Hugging Face's layout: what config.json says, and what that takes."""

import json

import pytest

from engines.models.config import BadConfig, read_config
from engines.models.memory import Serving
from hpc.recipe.folders import weights_in, weights_listed

LLAMA = {
    "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
}  # fmt: skip
GEMMA = {"layer_types": ["sliding_attention"] * 24 + ["full_attention"] * 8, "sliding_window": 1024}
ON_GPUS = Serving(8192, 4, gpu=True, engine="vllm")


@pytest.fixture
def config(tmp_path):
    """Write and read a config.json of weights of 16 GB."""

    def read(keys):
        (tmp_path / "config.json").write_text(json.dumps(keys))
        return read_config(tmp_path, 16_000_000_000)

    return read


def test_a_cache_takes_what_layers_heads_and_slots_do(config):
    need = config(LLAMA).need(ON_GPUS)
    assert need.kv_cache == 4 * 8192 * 32 * 2 * 8 * 128 * 2
    assert (need.weights, need.context_length) == (16_000_000_000, 8192)


@pytest.mark.parametrize(
    ("more", "times"),
    [
        ({"head_dim": 256}, 2),
        ({"num_key_value_heads": None}, 4),
        ({"torch_dtype": None, "dtype": "float32"}, 2),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 576 / 2048),
        ({"sliding_window": 1024, "use_sliding_window": False}, 1),
        (GEMMA, (24 * (1024 + 2048) / 8192 + 8) / 32),
    ],
)  # fmt: skip
def test_layouts_that_keep_more_or_less(config, more, times):
    usual = config(LLAMA).need(ON_GPUS).kv_cache
    assert config({**LLAMA, **more}).need(ON_GPUS).kv_cache == usual * times


def test_a_cache_of_fp8_is_half_as_large_and_blocks_are_whole(config):
    model = config(LLAMA)
    usual = model.need(Serving(8192, 1, gpu=True, engine="vllm")).kv_cache
    fp8 = Serving(8192, 1, gpu=True, engine="vllm", kv_cache_type="fp8")
    assert model.need(fp8).kv_cache * 2 == usual
    one_more = model.need(Serving(8193, 1, gpu=True, engine="vllm")).kv_cache
    assert one_more - usual == usual * 16 // 8192


@pytest.mark.parametrize(
    ("sizes", "loaded"),
    [
        ({"model-1-of-2.safetensors": 5, "model-2-of-2.safetensors": 4, "a.bin": 9}, 9),
        ({"consolidated.safetensors": 9, "model.safetensors": 8}, 8),
        ({"consolidated.safetensors": 9, "params.json": 1}, 9),
    ],
)
def test_weights_that_are_there_twice_count_once(tmp_path, sizes, loaded):
    """As those of Mistral, in a layout of their own, too."""
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert weights_in(tmp_path) == loaded
    files = [{"path": name, "size": size} for name, size in sizes.items()]
    assert weights_listed(json.dumps(files).encode()) == loaded


def test_of_a_model_of_images_its_part_for_text_counts(config):
    outer = {"dtype": "bfloat16", "text_config": {**LLAMA, "torch_dtype": None}}
    assert config(outer).need(ON_GPUS) == config(LLAMA).need(ON_GPUS)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "it is no JSON object"),
        ({}, "it does not say num_hidden_layers"),
        ({**LLAMA, "num_attention_heads": "many"}, "it does not say num_attention_heads"),
        ({**LLAMA, "hidden_size": -1}, "it does not say hidden_size"),
    ],
)
def test_what_does_not_say_it_is_told_in_words(config, keys, words):
    with pytest.raises(BadConfig, match=words):
        config(keys)
