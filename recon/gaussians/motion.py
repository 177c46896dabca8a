"""How canonical points move over the frames: one interface, three models."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from scipy.spatial import cKDTree
from torch import Tensor, nn

from viewtime.errors import UserError

from .canonical import cross_matrix
from .fused import carry, is_fused, motion_energy

BEND, JERK = 0.1, 0.02  # shares of unlike rotations and of accelerations in the energy of control points


class Motion(nn.Module):
    """Carries N canonical points to each of F frames by an affine map per point and frame.

    Attributes:
        frames: F.
        turns: whether the linear part is other than the identity.
    """

    frames: int
    turns: bool = False

    def affine(self, position: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Canonical [N, 3], frame numbers [K] -> linear parts [K, N, 3, 3] (or [1, 1, 3, 3]) and moved [K, N, 3]."""
        raise NotImplementedError

    def regulariser(self, position: Tensor, frames: Tensor) -> Tensor:
        """Smoothness in space and time around the given frames; a scalar."""
        raise NotImplementedError

    def enter(self, frame: int, known: int) -> None:
        """A frame enters the fit; `known` is the nearest frame fitted already. Models over time need no start."""

    def follow(self, tracks: Tensor, position: Tensor) -> None:
        """Start from paths [F, T, 3] of points near the canonical `position` [N, 3].

        Raises:
            UserError: the model has no parameters that a path could set.
        """
        raise UserError(
            f"{type(self).__name__} cannot start from tracks; use --gaussians.motion control_points or free"
        )

    def select(self, parents: Tensor) -> None:
        """The Gaussians became `old[parents]`; models with parameters per Gaussian follow."""

    def anneal(self, share: float) -> None:
        """Progress of the dynamic stage in [0, 1], for models that grow finer."""

    def groups(self, rate: float) -> list[dict]:
        """Optimiser groups."""
        raise NotImplementedError


def rotation_from_axis_angle(vector: Tensor) -> Tensor:
    """Rodrigues' formula, [..., 3] radians -> [..., 3, 3]."""
    square = vector.square().sum(-1)[..., None, None] + 1e-12
    angle = square.sqrt()
    cosine, identity = angle.cos(), torch.eye(3, device=vector.device, dtype=vector.dtype)
    outer = vector[..., None] * vector[..., None, :]
    return cosine * identity + angle.sin() / angle * cross_matrix(vector) + (1 - cosine) / square * outer


def _nearest_motion(tracks: Tensor, points: Tensor) -> Tensor:
    """Displacement [F, N, 3] of the track [F, T, 3] that starts nearest to each point [N, 3]."""
    _, nearest = cKDTree(tracks[0].numpy()).query(points.numpy())
    return (tracks - tracks[0])[:, torch.from_numpy(nearest)]


class ControlPointMotion(Motion):
    """Linear blend skinning by M control points, kept as rigid as possible around each of them.

    Every Gaussian hangs on its 4 nearest control points by softmax weights that are learned. Energy: ARAP (each
    control point's rotation explains how its neighbours moved), like rotations at neighbours, small accelerations.
    """

    turns = True

    def __init__(self, centres: Tensor, position: Tensor, frames: int, neighbours: int = 4, ring: int = 8) -> None:
        super().__init__()
        self.frames = frames
        M = len(centres)
        self.centres: Tensor
        self.index: Tensor
        self.around: Tensor
        self.edge_length: Tensor
        self.register_buffer("centres", centres.clone())
        self.translation = nn.Parameter(torch.zeros(frames, M, 3))
        self.rotation = nn.Parameter(torch.zeros(frames, M, 3))
        tree = cKDTree(centres.numpy())
        distance, index = tree.query(position.numpy(), k=min(neighbours, M))
        distance = torch.from_numpy(distance).float().reshape(len(position), -1)
        width = distance.mean().clamp(min=1e-6)
        self.register_buffer("index", torch.from_numpy(index).reshape(len(position), -1))
        self.logits = nn.Parameter(-(distance**2) / (2 * width**2))
        _, around = tree.query(centres.numpy(), k=min(ring + 1, M))
        self.register_buffer("around", torch.from_numpy(around).reshape(M, -1)[:, 1:])
        edge = (centres[self.around] - centres[:, None]).norm(dim=-1)
        self.register_buffer("edge_length", edge.mean().clamp(min=1e-6) if edge.numel() else torch.ones(()))

    def weights(self) -> Tensor:
        """Skinning weights [N, 4] of the control points `index`; each row sums to 1."""
        return self.logits.softmax(dim=1)

    def affine(self, position: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        if is_fused(position):
            hung = self.logits, self.index, self.centres
            return carry(position, *hung, self.translation, self.rotation, frames)
        rotation = rotation_from_axis_angle(self.rotation[frames])
        offset = self.centres + self.translation[frames] - (rotation * self.centres[:, None]).sum(dim=-1)
        parts = rearrange(torch.cat([rotation, offset[..., None]], dim=-1), "k m i j -> m (k i j)")
        blended = F.embedding_bag(self.index, parts, per_sample_weights=self.weights(), mode="sum")
        blended = rearrange(blended, "n (k i j) -> k n i j", i=3, j=4)
        linear = blended[..., :3]
        return linear, (linear * position[:, None]).sum(dim=-1) + blended[..., 3]

    def regulariser(self, position: Tensor, frames: Tensor) -> Tensor:
        if is_fused(position):
            weights = torch.stack([self.edge_length, position.new_tensor(BEND), position.new_tensor(JERK)])
            return motion_energy(self.centres, self.around, weights, self.translation, self.rotation, frames)
        rotation = rotation_from_axis_angle(self.rotation[frames])
        moved = self.centres + self.translation[frames]
        rest = self.centres[self.around] - self.centres[:, None]
        pose = torch.cat([moved, self.rotation[frames]], dim=-1)
        if not self.around.shape[1]:  # one control point has no neighbours to agree with
            return JERK * self._jerk(frames)
        beside = pose.index_select(1, self.around.flatten()).unflatten(1, self.around.shape) - pose[:, :, None]
        turned = rest @ rotation.transpose(-1, -2)
        rigid = (beside[..., :3] - turned).square().sum(-1).mean() / self.edge_length**2
        bend = beside[..., 3:].square().sum(-1).mean()
        return rigid + BEND * bend + JERK * self._jerk(frames)

    def _jerk(self, frames: Tensor) -> Tensor:
        """Mean squared accelerations at the frames that lie between two others."""
        inner = frames[(frames > 0) & (frames < self.frames - 1)]
        if not len(inner):
            return self.translation.new_zeros(())
        translation, rotation = (
            value[inner - 1] - 2 * value[inner] + value[inner + 1] for value in (self.translation, self.rotation)
        )
        return (translation**2).sum(-1).mean() / self.edge_length**2 + (rotation**2).sum(-1).mean()

    @torch.no_grad()
    def enter(self, frame: int, known: int) -> None:
        """Start from the neighbour plus 0.7 of its velocity."""
        before = known - (1 if frame > known else -1)
        for value in (self.translation, self.rotation):
            velocity = (
                value[known] - value[before] if 0 <= before < self.frames and known else torch.zeros_like(value[known])
            )
            value[frame] = value[known] + 0.7 * velocity

    @torch.no_grad()
    def follow(self, tracks: Tensor, position: Tensor) -> None:
        """Each control point moves as the track nearest to it."""
        self.translation.copy_(_nearest_motion(tracks, self.centres))

    def select(self, parents: Tensor) -> None:
        self.index = self.index[parents]

    def groups(self, rate: float) -> list[dict]:
        return [
            {"params": [self.translation], "lr": 2e-3 * rate, "name": "motion.translation"},
            {"params": [self.rotation], "lr": 8e-3 * rate, "name": "motion.rotation"},
            {"params": [self.logits], "lr": 2e-2 * rate, "name": "motion.logits", "per_gaussian": True},
        ]


class FreeMotion(Motion):
    """A displacement per Gaussian and frame, like its 8 nearest neighbours'."""

    def __init__(self, position: Tensor, frames: int, neighbours: int = 8) -> None:
        super().__init__()
        self.frames = frames
        self.displacement = nn.Parameter(torch.zeros(len(position), frames, 3))
        self._link(position, neighbours)

    def _link(self, position: Tensor, neighbours: int) -> None:
        _, index = cKDTree(position.detach().numpy()).query(
            position.detach().numpy(), k=min(neighbours + 1, len(position))
        )
        self.around: Tensor
        self.register_buffer("around", torch.from_numpy(index).reshape(len(position), -1)[:, 1:])

    def affine(self, position: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        return torch.eye(3, device=position.device)[None, None], position + self.displacement[:, frames].transpose(0, 1)

    def regulariser(self, position: Tensor, frames: Tensor) -> Tensor:
        moved = self.displacement[:, frames]
        smooth = ((moved[self.around] - moved[:, None]) ** 2).sum(-1).mean()
        inner = frames[(frames > 0) & (frames < self.frames - 1)]
        if not len(inner):
            return 300 * smooth
        d = self.displacement
        return 300 * smooth + 10 * ((d[:, inner - 1] - 2 * d[:, inner] + d[:, inner + 1]) ** 2).sum(-1).mean()

    @torch.no_grad()
    def enter(self, frame: int, known: int) -> None:
        """Start from the neighbour plus 0.7 of its velocity."""
        before, value = known - (1 if frame > known else -1), self.displacement
        velocity = value[:, known] - value[:, before] if 0 <= before < self.frames and known else 0.0
        value[:, frame] = value[:, known] + 0.7 * velocity

    @torch.no_grad()
    def follow(self, tracks: Tensor, position: Tensor) -> None:
        """Each Gaussian moves as the track nearest to it."""
        self.displacement.copy_(_nearest_motion(tracks, position.detach()).transpose(0, 1))

    def select(self, parents: Tensor) -> None:
        """Neighbour lists are rebuilt from the old ones: a new Gaussian is its parent's neighbour."""
        own = torch.arange(len(parents), device=self.around.device)
        new_of_old = torch.full((len(self.around),), -1, device=self.around.device)
        new_of_old[parents] = own
        mapped = new_of_old[self.around[parents]]
        own = own[:, None].expand_as(mapped)
        self.around = torch.where(mapped >= 0, mapped, own)

    def groups(self, rate: float) -> list[dict]:
        return [{"params": [self.displacement], "lr": 2e-3 * rate, "name": "motion.displacement", "per_gaussian": True}]


class MlpMotion(Motion):
    """4Real-Video's deformation field: an MLP from position and time to a displacement.

    Frequencies of the time encoding enter from low to high (SV4D 3.2).
    """

    def __init__(
        self, frames: int, width: int = 64, layers: int = 3, space_octaves: int = 4, time_octaves: int = 5
    ) -> None:
        super().__init__()
        self.frames, self.space_octaves, self.time_octaves = frames, space_octaves, time_octaves
        sizes = [3 + 6 * space_octaves + 1 + 2 * time_octaves] + [width] * layers
        hidden: list[nn.Module] = []
        for inner, outer in pairwise(sizes):
            hidden += [nn.Linear(inner, outer), nn.ReLU()]
        self.network = nn.Sequential(*hidden, nn.Linear(width, 3))
        final = self.network[-1]
        assert isinstance(final, nn.Linear)
        nn.init.zeros_(final.weight)
        nn.init.zeros_(final.bias)
        self.open_octaves: Tensor
        self.register_buffer("open_octaves", torch.tensor(1.0))

    def anneal(self, share: float) -> None:
        self.open_octaves.fill_(1.0 + min(1.0, share / 0.6) * (self.time_octaves - 1))

    def _encode(self, value: Tensor, octaves: int) -> Tensor:
        angle = value[..., None] * (math.pi * 2.0 ** torch.arange(octaves, device=value.device))
        return torch.stack([angle.sin(), angle.cos()], dim=-1)

    def _displacement(self, position: Tensor, time: Tensor) -> Tensor:
        """[N, 3] and [K] in [-1, 1] -> [K, N, 3]; zero at the canonical instant."""
        space = torch.cat([position, self._encode(position, self.space_octaves).flatten(1)], dim=-1)
        octave = torch.arange(self.time_octaves, device=time.device)
        window = (self.open_octaves - octave).clamp(0, 1)
        waves = (self._encode(time, self.time_octaves) * window[:, None]).flatten(1)
        moment = torch.cat([time[:, None], waves], dim=-1)
        K, N = len(time), len(position)
        both = torch.cat([space[None].expand(K, -1, -1), moment[:, None].expand(-1, N, -1)], dim=-1)
        return self.network(both)

    def affine(self, position: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        time = 2.0 * frames.to(position.device) / max(1, self.frames - 1) - 1.0
        return torch.eye(3, device=position.device)[None, None], position + self._displacement(position, time)

    def regulariser(self, position: Tensor, frames: Tensor) -> Tensor:
        return position.new_zeros(())

    def groups(self, rate: float) -> list[dict]:
        return [{"params": list(self.network.parameters()), "lr": 1e-3 * rate, "name": "motion.network"}]
