"""An analytic model: the grid's cells are one Gaussian field with known covariance, alike and independent per pixel.

The field is N(0, K_view ⊗ K_frame). K_frame = rho^|i - j| is Markov in time, so that a window which is conditioned on
one finished frame needs no other.
"""

import numpy as np
import torch

from viewtime.sample.models.grid_model import ModelTraits

RHO = 0.8


def covariance(views, frames):
    """[V F, V F], row-major over (view, frame)."""
    angle = 2 * np.pi * np.arange(views) / max(views, 2)
    view = 0.4 + 0.6 * (0.5 + 0.5 * np.cos(angle[:, None] - angle[None])) ** 2
    view = view / view[0, 0] + 0.05 * np.eye(views)
    index = np.arange(frames)
    frame = RHO ** np.abs(index[:, None] - index[None])
    return np.kron(view, frame)


class GaussianDenoiser:
    """Exact x0 prediction of the cells of a rectangle, given known cells."""

    def __init__(self, kind):
        self.schedule_kind, self.in_channels = kind, 1

    def __call__(self, x, sigma, cond):
        level = float(sigma[0])
        signal = 1.0 if self.schedule_kind == "edm" else 1.0 - level
        rows = []
        for index in range(len(x)):
            cov, mean = cond["covariance"][index].double(), cond["mean"][index].double()
            state = x[index].double().flatten(0, 1)
            gain = torch.linalg.solve((signal**2 * cov + level**2 * torch.eye(len(cov))).T, (signal * cov).T).T
            offset = state.flatten(1) - signal * mean.flatten(1)
            rows.append((mean.flatten(1) + gain @ offset).reshape(x[index].shape))
        return torch.stack(rows).to(x.dtype)


class GaussianModel:
    """`GridModel`: conditions are the posterior covariance and mean of the rectangle given the conditioning cells."""

    def __init__(self, views, frames, window_views, window_frames, inside, kind="edm", size=32, dtype=torch.float64):
        self.cov = covariance(views, frames)
        self.grid_frames, self.size, self.dtype = frames, size, dtype
        self.denoiser = GaussianDenoiser(kind)
        self.traits = ModelTraits("gaussian", window_views, window_frames, size, 1, inside=inside)
        self.device = torch.device("cpu")

    def latent_shape(self):
        return (1, self.size, self.size)

    def conditions(self, request):
        cells = [(view, frame) for view in request.views for frame in request.frames]
        known = list(request.direction.conditions)
        a = [view * self.grid_frames + frame for view, frame in cells]
        b = [view * self.grid_frames + frame for view, frame in known]
        posterior, mean = self.cov[np.ix_(a, a)], torch.zeros(len(a), 1, self.size, self.size, dtype=torch.float64)
        if b:
            gain = self.cov[np.ix_(a, b)] @ np.linalg.inv(self.cov[np.ix_(b, b)])
            posterior = posterior - gain @ self.cov[np.ix_(b, a)]
            mean = torch.einsum("ab,bchw->achw", torch.from_numpy(gain), request.read(known).double())
        return {"covariance": torch.from_numpy(posterior)[None], "mean": mean[None]}, None

    def clean(self, request):
        if not self.traits.inside:
            return None
        return request.known(), request.known_cells()

    def decode(self, latents):
        return latents
