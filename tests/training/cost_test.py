import pytest

from kaleido_tf.config import PATCH_ARMS, KaleidoConfig
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.modeling.models import count_parameters
from kaleido_tf.training import cost

TINY = KaleidoConfig(
    vocab_size=19,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    intermediate_size=12,
    text_length=5,
    patch_feature_size=3,
    max_position_embeddings=6,
    max_predictions=2,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"contrastive_size": 4, "akpm_tasks": ("jigsaw", "blank")},
        {"patch_arm": next(iter(PATCH_ARMS))},
    ],
)
def test_parameters_are_those_of_the_model(changes):
    config = TINY.replace(**changes)
    assert cost.num_parameters(config) == count_parameters(build_pretrainer(config))


def test_operations_by_hand():
    flops = cost.forward_flops(TINY)
    # S = 60. A layer: four 8 x 8 products, scores and values, 8 x 12 and 12 x 8.
    layer = 2 * 60 * (4 * 64 + 2 * 8 * 60 + 2 * 8 * 12)
    assert flops["layers"] == 2 * layer
    # 55 patches of 3 numbers and 5 of their place; 5 tokens of 2 types.
    assert flops["embeddings"] == 2 * 8 * (55 * 3 + 55 * 5 + 5 * 2)
    assert flops["masked words"] == 2 * 2 * 8 * (8 + 19)
    heads = 8 * 8 + 8 * 2 + 8 * 4 + 32 * 24 + 72 * 9 + 2 * 8 * 3 + 3 * 8 * 3
    assert flops["other heads"] == 2 * heads
    assert cost.training_flops(TINY) == 3 * sum(flops.values())


def test_the_papers_model():
    """BERT base is of 85 million numbers in its layers, 2 x 119 operations each."""
    base = KaleidoConfig.preset("base")
    assert cost.num_parameters(base) / 1e6 == pytest.approx(122, abs=3)
    layers = cost.forward_flops(base)["layers"]
    assert layers == pytest.approx(2 * 119 * 85e6, rel=0.05)


def test_memory_and_rate_of_a_plan():
    plan = cost.Plan(TINY, 32, devices=4, accumulate_steps=2)
    four_rows = 4 * cost.activation_bytes(TINY)
    assert plan.device_bytes == 16 * cost.num_parameters(TINY) + four_rows
    half = cost.activation_bytes(TINY, "mixed_bfloat16")
    assert cost.activation_bytes(TINY) / 2 < half < cost.activation_bytes(TINY)
    one = cost.Plan(TINY, 32)
    assert plan.samples_per_second == pytest.approx(4 * one.samples_per_second)
    expected = 19.5e12 * 0.35 / cost.training_flops(TINY)
    assert one.samples_per_second == pytest.approx(expected)
    assert "GiB" in plan.text()
