"""What given weights compute stays, and so does what a seed starts them as: trained files rest on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_files import normal
from torch import Tensor, nn

from tests.pins import assert_pinned
from viewtime.model.conditioners.image_encoder import clip_preprocess
from viewtime.model.conditioners.vision_transformer import VisionTransformer
from viewtime.model.critic import Critic
from viewtime.model.four_real.base import BaseVideoModel
from viewtime.model.four_real.config import BaseConfig, GridConfig, UpsamplerConfig, Variant
from viewtime.model.four_real.grid import GridModel
from viewtime.model.four_real.upsampler import Upsampler, enlarge
from viewtime.model.mini.config import MiniConfig
from viewtime.model.mini.network import MiniNetwork
from viewtime.model.mini.words import WordsConfig, WordsNetwork
from viewtime.model.published.video_config import ImageEncoderConfig

B, V, F, SIZE = 2, 3, 2, 16
TOLERANCE = 2e-4
MINI = {"size": SIZE, "stem_widths": (8, 16), "width": 32, "depth": 2, "head_dim": 16}
SOLID = {"frustum_width": 16, "frustum_hints": True}
FOUR_REAL = {"patch": 4, "width": 32, "depth": 2, "head_dim": 16, "mlp_ratio": 2}


def draw(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(normal(name, shape))


def stirred(module: nn.Module, by: float = 0.15) -> nn.Module:
    """The module, with every parameter moved from its start by a rule of its name."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(parameter + by * torch.from_numpy(np.asarray(normal(name, tuple(parameter.shape)))))
    return module.eval().requires_grad_(False)


def pin_start(name: str, module: nn.Module) -> None:
    """Mean and deviation of every parameter, as a seed makes it."""
    facts = [[float(p.mean()), float(p.std(correction=0))] for p in module.state_dict().values()]
    assert_pinned(f"{name} start", facts, 1e-3)


def grid() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Noisy cells, noise levels and conditions of two grids; their first view is known, but for one frame."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    inside = (x**2 + 2 * (y - 0.1) ** 2 < 0.5).float()
    colour = 0.5 * draw("colours", B, V, F, 3, 1, 1).clamp(-1, 1) + 0.3 * torch.sin(5 * x + 3 * y)
    cells = torch.cat([colour * inside + 1 - inside, (2 * inside - 1).expand(B, V, F, 1, SIZE, SIZE)], dim=3)
    known = torch.zeros(B, V, F, dtype=torch.bool)
    known[:, 0] = True
    known[1, 0, 1], known[1, 2, 1] = False, True
    cond = {
        "known": known,
        "known_frames": cells * known[..., None, None, None],
        "elevation": torch.tensor([10.0, -5.0, 25.0])[None, :, None].expand(B, V, F),
        "azimuth": torch.tensor([0.0, 70.0, 200.0])[None, :, None].expand(B, V, F),
        "fov_y": torch.tensor([33.8, 50.0]),
    }
    t = torch.tensor([0.3, 0.8])[:, None, None].expand(B, V, F)
    return cells + t[..., None, None, None] * draw("noise", B, V, F, 4, SIZE, SIZE), t, cond


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", {}),
        ("lift", {"lift_channels": 4}),
        ("solid", SOLID),
        ("separate", {"frame_attention": False, "view_attention": False, "camera_conditioning": False}),
        ("settled", {"depth": 0, **SOLID, "frustum_smooth": True, "frustum_settle": True, "frustum_rays": 16}),
        ("rays", {"size": 32, "depth": 0, **SOLID, "frustum_size": 16, "frustum_rays": 32}),
    ],
)
def test_mini(name: str, options: dict) -> None:
    torch.manual_seed(0)
    network = MiniNetwork(MiniConfig(**{**MINI, **options}))
    pin_start(f"mini {name}", network)
    x, t, cond = grid()
    if network.config.size != SIZE:
        x, cond["known_frames"] = enlarge(x, 2), enlarge(cond["known_frames"], 2)
    assert_pinned(f"mini {name}", stirred(network)(x, t, cond), TOLERANCE)


def test_words() -> None:
    torch.manual_seed(0)
    sizes = {**MINI, "stem_widths": (8, 16)}
    network = WordsNetwork(WordsConfig(("knight", "horse"), ("red", "blue"), ("walks walk",), **sizes))
    pin_start("words", network)
    x, t, cond = grid()
    cond["words"] = torch.tensor([[1.0, 0, 0, 1, 1], [0, 1, 1, 0, 0]])
    cond["instant"] = torch.tensor([0.1, 0.6]).expand(B, V, F)
    assert_pinned("words", stirred(network)(x, t, cond), TOLERANCE)


def test_critic() -> None:
    torch.manual_seed(0)
    critic = Critic(4, 8)
    pin_start("critic", critic)
    x, _, cond = grid()
    given = cond["known_frames"][:, :1].expand_as(x)
    judged = stirred(critic)(x, given, cond["known"], cond["elevation"], cond["azimuth"])
    assert judged.shape == (B, V, F, 2, 2)
    assert_pinned("critic", judged, TOLERANCE)


def four_real_inputs(height: int, width: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    x = draw("x", B, V, F, 3, height, width)
    _, t, cond = grid()
    clean = draw("clean", B, V, F, 3, height, width).clamp(-1, 1)
    cond = {"known": cond["known"], "known_frames": clean * cond["known"][..., None, None, None]}
    return x, 1000 * t, {**cond, "text": draw("text", B, 5, 24)}


def test_four_real_base() -> None:
    torch.manual_seed(0)
    base = BaseVideoModel(BaseConfig(text_width=24, frame_size=(8, 16), **FOUR_REAL))
    pin_start("base", base)
    inputs = four_real_inputs(8, 16)
    assert_pinned("base", stirred(base)(*inputs), TOLERANCE)
    x, label, cond = four_real_inputs(8, 24)
    row = {key: value[:, :1] if key != "text" else value for key, value in cond.items()}
    assert_pinned("base row", base(x[:, :1], label[:, :1], row), TOLERANCE)
    column = {key: value[:, :, :1] for key, value in cond.items() if key != "text"}
    assert_pinned("base column", base(x[:, :, :1], label[:, :, :1], column), TOLERANCE)


@pytest.mark.parametrize("variant", ["soft", "hard", "sequential", "fused"])
def test_four_real_grid(variant: Variant) -> None:
    torch.manual_seed(0)
    model = GridModel(GridConfig(BaseConfig(text_width=24, frame_size=(8, 16), **FOUR_REAL), variant))
    pin_start(f"grid {variant}", model)
    assert_pinned(f"grid {variant}", stirred(model)(*four_real_inputs(8, 16)), TOLERANCE)


def test_four_real_upsampler() -> None:
    torch.manual_seed(0)
    sizes = {**FOUR_REAL, "patch": 8}
    model = Upsampler(UpsamplerConfig(BaseConfig(text_width=0, frame_size=(16, 32), extra_channels=3, **sizes), 2))
    pin_start("upsampler", model)
    x, label, _ = four_real_inputs(16, 32)
    small = draw("small", B, V, F, 3, 8, 16)
    assert_pinned("upsampler", stirred(model)(x, label / 1000, {"small": small}), TOLERANCE)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_image_tower(activation: str) -> None:
    torch.manual_seed(0)
    config = ImageEncoderConfig(28, 7, 32, 2, 4, 9, activation=activation)  # type: ignore[arg-type]
    tower = VisionTransformer(config)
    pin_start(f"tower {activation}", tower)
    seen = clip_preprocess(draw("pictures", 2, 3, 40, 70).clamp(-1, 1), 28)
    assert_pinned("seen", seen, TOLERANCE)
    assert_pinned(f"tower {activation}", stirred(tower)(seen), TOLERANCE)
