"""The first Gaussians: from the voting hull, from an asset, from the user's points, or at random."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.recon.fitting.hull import voting_hull
from viewtime.recon.fitting.points import points_in_hull
from viewtime.recon.fitting.targets import Targets
from viewtime.where import find_asset

from .asset import GaussianAsset
from .canonical import Gaussians, spacing_scale
from .densify import SHRINK
from .point_files import has_tracks, read_points, read_tracks

GREY = 0.5
POOR_COVERAGE = 0.75
OUT_OF_SIGHT = 1.5  # times half the side of the cube that all cameras see: Gaussians beyond are dropped
FILLED = 2  # Gaussians that an asset starts with at least, times `gaussians.count`: thin ones, with holes between them


def first_gaussians(targets: Targets, config: ReconstructConfig) -> Gaussians:
    """Gaussians at the canonical frame (0), grey unless the points bring colours.

    Raises:
        UserError: what it starts from cannot be read or stands elsewhere (see `check_start`), or the views have
            no volume in common.
    """
    check_start(config, targets.shape[1])
    generator = torch.Generator().manual_seed(config.seed)
    options = config.init
    colour = None
    if options.source == "asset":
        asset = starting_asset(config, targets.shape[1])
        _check_in_sight(asset.means[0], targets.reach, f"Gaussians of {options.asset}")
        return of_asset(asset, config.gaussians.isotropic)
    if options.source == "points":
        assert options.points is not None
        position, colour = read_points(options.points)
        _check_in_sight(position, targets.reach, f"points of {options.points}")
    elif options.source == "random":
        position = (2 * torch.rand(config.gaussians.count, 3, generator=generator) - 1) * 0.5 * targets.reach
    else:
        usable = targets.usable[:, 0].nonzero().flatten()
        cells = targets.cell(usable, torch.zeros_like(usable))
        hull = voting_hull(targets.images[usable, 0, 3], targets.views[cells], targets.reach, options.resolution)
        if hull.coverage < POOR_COVERAGE or hull.tolerance > 0:
            log.warning(
                "the views disagree: what %d of %d of them have in common explains %.0f %% of the masks; "
                "the cameras may be wrong, or try --imperfect.offset --imperfect.view-deformation",
                len(usable) - hull.tolerance, len(usable), 100 * hull.coverage,
            )  # fmt: skip
        position = points_in_hull(hull, config.gaussians.count, generator)
    if len(position) < 4:
        raise UserError(
            f"only {len(position)} starting points; at least 4 are needed: give larger masks or more points"
        )
    scale = spacing_scale(position)
    return Gaussians(
        position, scale, torch.full_like(position, GREY) if colour is None else colour, config.gaussians.isotropic
    )


def check_start(config: ReconstructConfig, frames: int) -> None:
    """Refuse a start that would stop the fit later on, hours of it done: files, their frames, paths that do not fit.

    Raises:
        UserError: the named points or asset cannot be read or have another number of frames, one is named for nothing,
            or they bring paths to a motion that cannot follow any.
    """
    options = config.init
    for name, told in (("points", options.points), ("asset", options.asset)):
        if options.source == name and told is None:
            what = "FOLDER, as --method direct writes" if name == "asset" else "FILE (.npy, .npz or .ply)"
            raise UserError(f"--init.source {name} needs --init.{name} {what}")
        if options.source != name and told is not None:
            raise UserError(f"--init.{name} {told} is not used by --init.source {options.source}; give {name} there")
    if options.source == "points":
        assert options.points is not None
        read_points(options.points)
    if starting_tracks(config, frames) is not None and config.gaussians.motion == "mlp":
        raise UserError(
            "--gaussians.motion mlp cannot start from the paths that --init.source brings; use control_points or free"
        )


def _check_in_sight(position: Tensor, reach: float, what: str) -> None:
    """Refuse points that no camera sees: none of them would ever be moved by a picture."""
    if float(position.abs().amax(dim=1).min()) > OUT_OF_SIGHT * reach:
        nearest = float(position.norm(dim=1).min())
        raise UserError(
            f"none of the {len(position)} {what} is where the cameras look: the nearest is {nearest:.3g} from their "
            f"centre, and they see {reach:.3g} around it; give what belongs to this grid"
        )


def starting_asset(config: ReconstructConfig, frames: int) -> GaussianAsset:
    """The asset that `--init.asset` names, with Gaussians enough for a fit.

    Raises:
        UserError: it cannot be read, or it has another number of frames than the grid.
    """
    assert config.init.asset is not None
    folder = find_asset(config.init.asset)
    asset = GaussianAsset.load(folder)
    if asset.frames != frames:
        raise UserError(f"{folder} has {asset.frames} frames, the grid {frames}; make it from the same video")
    return filled(asset, FILLED * config.gaussians.count, torch.Generator().manual_seed(config.seed))


def filled(asset: GaussianAsset, count: int, generator: torch.Generator) -> GaussianAsset:
    """The asset with at least `count` Gaussians: the largest are split in two (3DGS, section 5.2) until there are."""
    while (missing := count - asset.means.shape[1]) > 0:
        whole = asset.covariance if asset.covariance.dim() == 3 else asset.covariance[..., None] * torch.eye(3)
        extent = whole.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        parents = extent.topk(min(missing, len(extent))).indices
        squares, axes = torch.linalg.eigh(whole[parents])  # some are flat, or points
        offset = axes @ (squares.clamp_min(0).sqrt() * torch.randn(len(parents), 3, generator=generator))[..., None]
        offset = (asset.linear[:, parents] @ offset)[..., 0]
        means, covariance = asset.means.clone(), asset.covariance.clone()
        means[:, parents] += offset
        covariance[parents] /= math.exp(2 * SHRINK)
        asset = replace(
            asset,
            means=torch.cat([means, asset.means[:, parents] - offset], dim=1),
            linear=torch.cat([asset.linear, asset.linear[:, parents]], dim=1),
            covariance=torch.cat([covariance, covariance[parents]]),
            opacity=torch.cat([asset.opacity, asset.opacity[parents]]),
            colour=torch.cat([asset.colour, asset.colour[parents]]),
        )
    return asset


def of_asset(asset: GaussianAsset, isotropic: bool) -> Gaussians:
    """The Gaussians of an asset's first frame, to be fitted on."""
    covariance = asset.at(0.0)[1]
    if covariance.shape[-1] == 1:
        squares, axes = covariance.expand(-1, 3), torch.eye(3).expand(len(covariance), 3, 3)
    else:
        squares, axes = torch.linalg.eigh(covariance)
    squares = squares.clamp_min(1e-10)
    axes = torch.cat([axes[..., :2], axes[..., 2:] * torch.linalg.det(axes)[:, None, None]], dim=-1)  # no mirror
    size = squares.log().mean(dim=1).mul(0.5).exp()
    gaussians = Gaussians(asset.means[0], size, asset.colour, isotropic)
    gaussians.opacity_logit.data = torch.logit(asset.opacity.clamp(0.01, 0.99))
    if not isotropic:
        gaussians.log_scale.data = 0.5 * squares.log()
        x, y, z, w = torch.from_numpy(Rotation.from_matrix(axes.numpy()).as_quat()).float().unbind(-1)
        gaussians.quaternion.data = torch.stack([w, x, y, z], dim=-1)
    return gaussians


def starting_tracks(config: ReconstructConfig, frames: int) -> Tensor | None:
    """Paths [F, N, 3] that start the motion, where the chosen source has them."""
    options = config.init
    if options.source == "asset":
        return starting_asset(config, frames).means
    if options.source == "points" and has_tracks(options.points):
        assert options.points is not None
        return read_tracks(options.points, frames)
    return None
