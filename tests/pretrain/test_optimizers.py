"""The optimizers by hand, and their groups by name."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pretrain import engine, optimizers
from pretrain.optimizers.bert_adam import BertAdam
from pretrain.recipe import OptimizerRecipe, RateScale
from pretrain.schedules import learning_rate
from trawl.errors import RequestError

GRADIENTS = (1.0, -0.5, 0.25)


class Scalar(nn.Module):
    """One number that learns; of two dimensions, so that it decays."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))


def _steps(recipe: OptimizerRecipe, rates: list[float]) -> list[float]:
    """Return the value after each of the steps with GRADIENTS and `rates`."""
    model = Scalar()
    optimizer = optimizers.build(model, recipe)
    values = []
    for gradient, rate in zip(GRADIENTS, rates, strict=True):
        engine.set_rate(SimpleNamespace(optimizer=optimizer), rate)
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.step()
        values.append(float(model.weight.detach()))
    return values


def _by_hand(rates: list[float], decay: float, eps: float, kind: str) -> list[float]:
    """Return the same by the table of the reference, in plain arithmetic."""
    value, mean, square, values = 1.0, 0.0, 0.0, []
    for count, (gradient, rate) in enumerate(zip(GRADIENTS, rates, strict=True), start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        one, two = 1 - 0.9**count, 1 - 0.999**count
        if kind == "hf-adamw":
            value -= rate * math.sqrt(two) / one * mean / (math.sqrt(square) + eps)
            value -= rate * decay * value
        elif kind == "bert-adam":
            value -= rate * (mean / (math.sqrt(square) + eps) + decay * value)
        else:
            value -= rate * decay * value
            value -= rate * (mean / one) / (math.sqrt(square / two) + eps)
        values.append(value)
    return values


@pytest.mark.parametrize("name", ["adamw", "hf-adamw", "bert-adam"])
@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_three_steps_by_hand(name: str, eps: float) -> None:
    recipe = OptimizerRecipe.model_validate({"name": name, "weight_decay": 0.01, "eps": eps})
    rates = [0.1, 0.1, 0.05]
    assert _steps(recipe, rates) == pytest.approx(_by_hand(rates, 0.01, eps, name), rel=1e-12)


def test_the_first_step_tells_the_two_adamws_apart() -> None:
    published = _steps(OptimizerRecipe(name="hf-adamw", weight_decay=0.01), [0.1] * 3)
    torchs = _steps(OptimizerRecipe(name="adamw", weight_decay=0.01), [0.1] * 3)
    assert published[0] == pytest.approx(0.9 * 0.999, abs=1e-6)
    assert torchs[0] == pytest.approx(0.999 - 0.1, abs=1e-6)


def test_the_first_step_of_bert_adam_changes_nothing_during_a_warm_up() -> None:
    recipe = OptimizerRecipe(name="bert-adam", decay="triangle", warmup_steps=1)
    rates = [learning_rate(step, 0.1, 1, 10, recipe.decay) for step in range(3)]
    values = _steps(recipe, rates)
    assert values[0] == 1.0
    assert values[1] != 1.0


def test_each_parameter_is_cut_to_its_own_norm() -> None:
    long, short = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = BertAdam([long, short], lr=1.0, betas=(0.0, 0.0), eps=1.0, clip_each=1.0)
    long.grad, short.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    optimizer.step()
    # With betas of 0 the update is g / (|g| + 1).
    assert long.tolist() == pytest.approx([-0.6 / 1.6, -0.8 / 1.8], rel=1e-5)
    assert short.tolist() == pytest.approx([-0.3 / 1.3, -0.4 / 1.4], rel=1e-5)
    assert long.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("name", ["hf-adamw", "bert-adam"])
def test_a_saved_optimizer_goes_on_as_if_nothing_had_happened(name: str) -> None:
    recipe = OptimizerRecipe.model_validate({"name": name})
    torch.manual_seed(0)
    models = nn.Linear(4, 3), nn.Linear(4, 3)
    models[1].load_state_dict(models[0].state_dict())
    whole, first = (optimizers.build(model, recipe) for model in models)
    gradients = [torch.randn(3, 4) for _ in range(4)]
    _take(whole, models[0], gradients)
    _take(first, models[1], gradients[:2])
    second = optimizers.build(models[1], recipe)
    second.load_state_dict(first.state_dict())
    _take(second, models[1], gradients[2:])
    assert torch.equal(models[0].weight, models[1].weight)


def _take(optimizer: torch.optim.Optimizer, model: nn.Linear, gradients: list[Tensor]) -> None:
    for gradient in gradients:
        model.weight.grad, model.bias.grad = gradient.clone(), gradient[:, 0].clone()
        optimizer.step(lambda: 0.0)


class Named(nn.Module):
    """Parameters by name, as the families have them."""

    NAMES = {
        "bert.encoder.layer.0.output.dense.weight": (2, 2),
        "bert.encoder.layer.0.output.dense.bias": (2,),
        "bert.encoder.layer.0.output.LayerNorm.weight": (2,),
        "bert.encoder.c_layer.0.biattention.query1.weight": (2, 2),
        "vision_encoder.layers.0.blocks.0.norm1.weight": (2,),
        "vision_encoder.layers.0.downsample.norm.weight": (2,),
        "vision_encoder.layers.0.blocks.0.attn.relative_position_bias_table": (9, 2),
        "itm_head.0.weight": (4, 2),
        "itm_head.1.weight": (4,),
        "itm_head.1.bias": (4,),
        "temp": (),
    }

    def __init__(self) -> None:
        super().__init__()
        for name, shape in self.NAMES.items():
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in dict(place.named_children()):
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.register_parameter(last, nn.Parameter(torch.ones(shape)))


def _settings(recipe: OptimizerRecipe) -> dict[str, tuple[float, float]]:
    """Return the decay and the scale of each parameter, by name."""
    model = Named()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimizers.build(model, recipe).param_groups
    found = {
        names[id(parameter)]: (group["weight_decay"], group["rate_scale"])
        for group in groups
        for parameter in group["params"]
    }
    assert sum(len(group["params"]) for group in groups) == len(found) == len(Named.NAMES)
    return found


_BERT_GAINS = {
    "bert.encoder.layer.0.output.dense.bias",
    "bert.encoder.layer.0.output.LayerNorm.weight",
    "itm_head.1.bias",
    "vision_encoder.layers.0.blocks.0.attn.relative_position_bias_table",
}
_NORMS = {
    "vision_encoder.layers.0.blocks.0.norm1.weight",
    "vision_encoder.layers.0.downsample.norm.weight",
}


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        ("sound", {name for name, shape in Named.NAMES.items() if len(shape) < 2}),
        ("oscar", _BERT_GAINS),
        ("vilbert-mt", _BERT_GAINS),
        ("vilbert-beta", set(Named.NAMES) - _BERT_GAINS),
        ("lxmert", set()),
        ("xvlm", _BERT_GAINS | _NORMS),
    ],
)
def test_what_decays_goes_by_the_release(groups: str, kept: set[str]) -> None:
    recipe = OptimizerRecipe.model_validate({"decay_groups": groups, "weight_decay": 0.5})
    found = _settings(recipe)
    assert {name for name, (decay, _) in found.items() if decay == 0} == kept
    assert {decay for decay, _ in found.values()} <= {0.0, 0.5}


def test_the_default_is_torchs_own_over_two_groups() -> None:
    # Exactly that class: DeepSpeed knows no other as fit for ZeRO. The order of the parameters is
    # part of a checkpoint.
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    optimizer = optimizers.build(model, OptimizerRecipe())
    assert type(optimizer) is torch.optim.AdamW
    weights, rest = (group["params"] for group in optimizer.param_groups)
    assert [id(each) for each in weights] == [id(model[0].weight), id(model[2].weight)]
    assert [each.ndim for each in rest] == [1, 1, 1, 1]


def test_rates_are_scaled_by_name_and_the_first_match_counts() -> None:
    scales = [
        RateScale(match=r"^itm_head\.0", scale=4.0),
        RateScale(match=r"^(itm_head|temp)", scale=2.0),
    ]
    found = _settings(OptimizerRecipe(decay_groups="xvlm", rate_scales=scales))
    doubled = {name for name, (_, scale) in found.items() if scale == 2}
    assert doubled == {"itm_head.1.weight", "itm_head.1.bias", "temp"}
    assert found["itm_head.0.weight"] == (0.01, 4.0)
    assert found["bert.encoder.layer.0.output.dense.weight"] == (0.01, 1.0)


def test_the_rate_of_a_step_respects_the_scales() -> None:
    recipe = OptimizerRecipe(rate_scales=[RateScale(match="temp", scale=0.1)])
    optimizer = optimizers.build(Named(), recipe)
    engine.set_rate(SimpleNamespace(optimizer=optimizer), 3e-4)
    rates = {group["rate_scale"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {1.0: 3e-4, 0.1: 3e-4 * 0.1}


def test_a_scale_that_matches_nothing_is_refused() -> None:
    recipe = OptimizerRecipe(rate_scales=[RateScale(match="itm_haed", scale=2.0)])
    with pytest.raises(RequestError, match="no parameter's name matches itm_haed"):
        optimizers.build(Named(), recipe)


def test_what_does_not_learn_is_left_out() -> None:
    model = Named()
    model.get_parameter("temp").requires_grad_(False)
    optimizer = optimizers.build(model, OptimizerRecipe())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(Named.NAMES) - 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"clip_each": 1.0}, "clip_each is for bert-adam"),
        ({"milestones": [3]}, "milestones and decay multistep go together"),
        ({"decay": "multistep"}, "milestones and decay multistep go together"),
        ({"decay": "multistep", "milestones": [4, 3]}, "each greater than the one before"),
        ({"betas": [0.9, 1.0]}, "from 0 to below 1"),
        ({"rate_scales": [{"match": "(", "scale": 1.0}]}, "no regular expression"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OptimizerRecipe.model_validate(keys)
