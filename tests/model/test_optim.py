"""Parameter groups, schedule, averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from usds.model.ema import EMA
from usds.model.optim import Schedule, clip_gradients, parameter_groups
from usds.model.settings import OptimizerSettings, ScheduleSettings, preset
from usds.model.towers import build_towers


def test_every_parameter_is_in_one_group_and_vectors_do_not_decay() -> None:
    towers = build_towers(preset("tiny").model.towers)
    groups = parameter_groups(towers, OptimizerSettings(weight_decay=0.2))
    placed = [p for group in groups for p in group["params"]]
    assert len(placed) == len(list(towers.parameters()))
    for group in groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.2) for p in group["params"])
    theta = next(g for g in groups if any(p is towers.clip.logit_scale for p in g["params"]))
    assert theta["weight_decay"] == 0.0


def test_layer_decay_falls_towards_the_stem() -> None:
    model = nn.ModuleDict(
        {"visual": nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])})}
    )
    model["visual"]["patch_embed"] = nn.Linear(2, 2)
    model["graph"] = nn.Linear(2, 2)
    groups = parameter_groups(model, OptimizerSettings(layer_decay=0.5))
    scale = {id(p): g["scale"] for g in groups for p in g["params"]}
    blocks = model["visual"]["blocks"]
    assert [scale[id(b.weight)] for b in blocks] == [0.125, 0.25, 0.5]
    assert scale[id(model["visual"]["patch_embed"].weight)] == 0.0625
    assert scale[id(model["graph"].weight)] == 1.0


def test_rate_warms_up_peaks_and_ends_low() -> None:
    schedule = Schedule(ScheduleSettings(warmup_steps=10), 110, 1.0)
    rates = [schedule.rate(step) for step in range(111)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_short_run_still_reaches_its_peak() -> None:
    schedule = Schedule(ScheduleSettings(warmup_steps=500), 20, 1.0)
    assert max(schedule.rate(step) for step in range(20)) == 1.0


def test_gradient_norm_is_cut_or_left() -> None:
    weight = nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((4,), 3.0)
    assert float(clip_gradients([weight], 0.0)) == pytest.approx(6.0)
    assert float(weight.grad.norm()) == pytest.approx(6.0)
    clip_gradients([weight], 1.0)
    assert float(weight.grad.norm()) == pytest.approx(1.0, abs=1e-4)


def test_the_average_follows_and_gives_back() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, 0.9)
    nn.init.ones_(model.weight)
    ema.update(model)
    early = float(ema.average["weight"])
    assert early == pytest.approx(1 - 2 / 11)  # early steps forget the random start faster
    with ema.applied(model):
        assert model.weight.item() == early
    assert model.weight.item() == 1.0
    other = EMA(model, 0.9)
    other.restore(ema.state_of(model), ema.steps)
    assert (other.steps, float(other.average["weight"])) == (1, early)
