"""From a `DataConfig` to the loader: the one call that training makes."""

from __future__ import annotations

from typing import Any

from viewtime.configs.schema.data import DataConfig
from viewtime.data.loader import GridLoader
from viewtime.data.pseudo4d import Pseudo4DSource
from viewtime.data.sources import Mixture
from viewtime.data.stored.buckets import bucket_sources
from viewtime.data.stored.shard_source import ShardSource
from viewtime.errors import UserError


def build_mixture(config: DataConfig) -> Mixture:
    """The sources that the config names, with their weights.

    Raises:
        UserError: no source is named, or one has nothing to give.
    """
    present: list[tuple[Any, float]] = []
    size = {"views": config.views, "frames": config.frames, "max_stride": config.max_stride}
    height, width = config.resolution, config.width if config.width is not None else config.resolution
    if width < height:
        raise UserError(f"data.options.width {width} is less than the height, data.options.resolution {height}")
    frame_size = (height, width)
    if config.kept.folder and not config.assets:
        raise UserError("data.options.kept.folder keeps grids of assets, and data.options.assets names none")
    rendered = config.assets or config.videos or config.static_videos or config.creature_weight
    if config.buckets and (rendered or not config.shards):
        raise UserError(
            "data.options.buckets are for shards alone: encode assets and videos first, or leave the buckets out"
        )
    if config.shards:
        shards = ShardSource(config.shards, **size, kind=config.kind, shuffle_shards=config.shuffle_shards)
        if config.buckets:
            return Mixture(*bucket_sources(shards, config.buckets), one_a_batch=True)
        present.append((shards, config.shard_weight))
    if config.kind == "latents" and rendered:
        raise UserError(
            "data.options.kind latents comes from shards alone; encode assets and videos first, or use pixels"
        )
    if config.assets:
        from viewtime.data.live.asset_list import held_out_ids, list_assets, split_assets
        from viewtime.data.live.stream import AssetSource

        found = list_assets(config.assets)
        assets: Any = AssetSource(
            split_assets(found, held_out_ids(config, found), config.held_out_only),
            **(size if not config.kept.folder else {**size, "views": config.kept.views}),
            resolution=frame_size,
            options=config.on_the_fly,
        )
        if config.kept.folder:
            from viewtime.data.live.kept import KeptSource

            assets = KeptSource(assets, config.kept, config.views, max(1, config.workers))
        present.append((assets, config.asset_weight))
    if config.creature_weight:
        from viewtime.data.creatures.source import CreatureSource

        creatures = CreatureSource(**size, resolution=frame_size, options=config.on_the_fly)
        present.append((creatures, config.creature_weight))
    if config.videos:
        present.append((Pseudo4DSource(config.videos, **size, resolution=frame_size), config.video_weight))
    if config.static_videos:
        static = Pseudo4DSource(config.static_videos, **size, resolution=frame_size, static=True)
        present.append((static, config.static_weight))
    return Mixture([source for source, _ in present], [weight for _, weight in present])


def build_loader(config: DataConfig, rank: int = 0, world: int = 1) -> GridLoader:
    """The endless loader of training process `rank` among `world`."""
    return GridLoader(build_mixture(config), config, rank, world)
