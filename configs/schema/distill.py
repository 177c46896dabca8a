"""Options of `viewtime distill`. Imports no torch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .distill_scene import BackgroundOptions, FieldOptions, RenderOptions
from .distill_stages import CameraOptions, GuidanceOptions, StageOptions

DEFAULTS = {"4d-fy": "4d-fy-code", "dream-in-4d": "dream-in-4d-code"}
IMAGE_DEFAULT = "dream-in-4d-image"
MEMORY = (12, 24, 48, 80)


@dataclass(frozen=True)
class ReferenceOptions:
    """The user's picture as a teacher (Dream-in-4D's image-to-4D).

    Attributes:
        color: weight of the squared error of its colours.
        mask: weight of the squared error of its mask.
        elevation: of its camera, degrees.
        azimuth: of its camera, degrees.
        distance: of its camera, world units.
        fov_y: of its camera, degrees.
        ray_noise: standard deviation of the step that all its rays are moved by, world units, and their directions.
    """

    color: float = 500.0
    mask: float = 50.0
    elevation: float = 0.0
    azimuth: float = 0.0
    distance: float = 3.8
    fov_y: float = 20.0
    ray_noise: float = 0.002


@dataclass(frozen=True)
class ResultOptions:
    """What is made of the finished scene: a grid of views × frames, and of that everything that reconstruct makes.

    Attributes:
        views: cameras evenly around.
        frames: instants.
        size: pixels of an edge.
        elevation: degrees.
        distance: world units.
        fov_y: degrees.
        fps: frames per second.
        reconstruct: fit Gaussians to the grid and write mesh, films and scores.
        iterations: steps of that fit's second stage; the first has a fifth of them.
        page: also write a web page that plays the asset.
    """

    views: int = 12
    frames: int = 16
    size: int = 256
    elevation: float = 15.0
    distance: float = 3.0
    fov_y: float = 40.0
    fps: float = 12.0
    reconstruct: bool = True
    iterations: int = 2000
    page: bool = True


@dataclass(frozen=True)
class DistillConfig:
    """Text or a picture to 4D by score distillation: 4D-fy, Dream-in-4D.

    Attributes:
        prompt: what to make.
        config: the preset or YAML file that was read.
        out: folder to write.
        method: whose published schedule is the default.
        image: RGBA picture of the object, for dream-in-4d.
        lora: folder of a DreamBooth LoRA that diffusers wrote, for the guidances by Stable Diffusion.
        weights: files or folders of the networks by the guidances' names.
        preview_prior: only draw what each guidance alone makes of the prompt, and stop.
        preview_steps: denoising steps of that.
        memory: gigabytes of GPU memory to fit into: 12, 24, 48 or 80; 0: the preset as it is.
        fit_anyway: start although the estimate does not fit the memory.
        device: where it runs.
        seed: of every random choice.
        resume: go on from the state in `out`, if there is one; --resume false starts anew.
        save_every: steps between saved states and previews.
        scene: what is shaped.
        background: behind it.
        render: how it is shown while it is shaped.
        reference: the user's picture as a teacher.
        cameras: by name.
        guidances: by name.
        stages: by name, in order.
        result: what comes out.
    """

    prompt: str
    config: str
    method: Literal["4d-fy", "dream-in-4d"] = "4d-fy"
    out: Path = Path("outputs/distill")
    image: Path | None = None
    lora: Path | None = None
    weights: dict[str, Path] = field(default_factory=dict)
    preview_prior: bool = False
    preview_steps: int = 50
    memory: Literal[0, 12, 24, 48, 80] = 0
    fit_anyway: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    resume: bool = True
    save_every: int = 500
    scene: FieldOptions = field(default_factory=FieldOptions)
    background: BackgroundOptions = field(default_factory=BackgroundOptions)
    render: RenderOptions = field(default_factory=RenderOptions)
    reference: ReferenceOptions = field(default_factory=ReferenceOptions)
    cameras: dict[str, CameraOptions] = field(default_factory=dict)
    guidances: dict[str, GuidanceOptions] = field(default_factory=dict)
    stages: dict[str, StageOptions] = field(default_factory=dict)
    result: ResultOptions = field(default_factory=ResultOptions)

    @staticmethod
    def from_argv(argv: list[str], prog: str) -> DistillConfig:
        """A prompt, then `--section.key value`; see `viewtime.configs.overrides.parse_overrides`."""
        from viewtime.configs.overrides import parse_overrides

        return parse_overrides(DistillConfig, argv, prog, command="distill", positional="prompt", read=read_preset)


def read_preset(plain: dict[str, Any]) -> dict[str, Any]:
    """The preset that `--config`, or `--method` and `--image`, name, made to fit `--memory`.

    Raises:
        UserError: no such preset or method, or a picture for a method that takes none.
    """
    from viewtime.configs.load import load_preset
    from viewtime.errors import UserError

    method, image = plain.get("method"), plain.get("image")
    if method not in (None, *DEFAULTS):
        raise UserError(f"--method {method}; one of {', '.join(DEFAULTS)}")
    if image is not None and method == "4d-fy" and "config" not in plain:
        raise UserError(f"--image {image}: 4d-fy takes no picture; use --method dream-in-4d")
    default = IMAGE_DEFAULT if image is not None else DEFAULTS[method or "4d-fy"]
    name = str(plain.get("config", default))
    mapping = load_preset(name, "distill") | {"config": name}
    return fitted(mapping, plain["memory"]) if plain.get("memory") else mapping


def fitted(mapping: dict[str, Any], gigabytes: int) -> dict[str, Any]:
    """A preset's mapping with the changes for so much GPU memory (`configs/memory/`).

    Raises:
        UserError: there are none for that number.
    """
    from viewtime.configs.load import PRESET_FOLDER, load_preset, merged
    from viewtime.errors import UserError

    path = PRESET_FOLDER / "memory" / f"{gigabytes}.yaml"
    if not path.is_file():
        raise UserError(f"--memory {gigabytes}; one of {', '.join(map(str, MEMORY))}")
    changes = load_preset(path, "distill")
    everyone = changes["guidances"].pop("*", {})
    sections = {
        name: merged(merged(section, everyone), changes["guidances"].get(name, {}))
        for name, section in mapping["guidances"].items()
    }
    return merged(mapping, {"render": changes["render"]}) | {"guidances": sections}
