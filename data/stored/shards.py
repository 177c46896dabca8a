"""Training shards on disk: WebDataset tars with an index of offsets and checksums beside each.

`shard-000000.tar` can be read by any WebDataset reader; `shard-000000.json` lets this package's reader go straight
to a sample and tell a damaged one from a good one. Tar headers carry no time, user or host, so the same samples give
the same bytes, on any day and after any interruption.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from viewtime.data.samples import CorruptSampleError
from viewtime.errors import UserError
from viewtime.files import atomic_path
from viewtime.json_files import read_json
from viewtime.log import log

from .schema import META, SampleRecord

INDEX_VERSION = 1
END_OF_ARCHIVE = b"\0" * 1024
LARGEST_SAMPLE = 1 << 36
Shape = tuple[int, int, int, int]  # views, frames, height and width in pixels


@dataclass(frozen=True)
class Entry:
    """Where one sample lies in its shard: all its members, headers included; and the shape of its grid.

    crc32 and shape are None where nobody knows them.
    """

    key: str
    offset: Annotated[int, Meta(ge=0)]
    size: Annotated[int, Meta(ge=0, le=LARGEST_SAMPLE)]
    crc32: int | None
    shape: Shape | None = None


@dataclass(frozen=True)
class ShardIndex:
    """The JSON beside a shard. `failed` lists items that were to be in it and could not: (id, reason)."""

    version: int
    bytes: int
    sha256: str
    entries: list[Entry]
    failed: list[tuple[str, str]]


@dataclass(frozen=True)
class _IndexVersion:
    version: int


def index_path(shard: Path) -> Path:
    """`shard-000000.tar` -> `shard-000000.json`."""
    return shard.with_suffix(".json")


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:06d}.tar"


def _member(name: str, payload: bytes) -> bytes:
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = len(payload), 0o644, 0
    padding = -len(payload) % tarfile.BLOCKSIZE
    return header.tobuf(tarfile.USTAR_FORMAT) + payload + b"\0" * padding


def write_shard(
    shard: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]], failed: Iterable[tuple[str, str]] = ()
) -> ShardIndex:
    """Write one shard and its index; the index is renamed last, so a shard with an index is whole.

    Args:
        samples: (key, {extension: bytes}); a key has no dot and no slash.
        failed: consumed after `samples`, so a generator of samples may still append to it.

    Raises:
        UserError: a key is repeated or cannot name a tar member.
    """
    entries: list[Entry] = []
    digest, offset, keys = hashlib.sha256(), 0, set()
    index_path(shard).unlink(missing_ok=True)
    with atomic_path(shard) as temporary, temporary.open("wb") as file:
        for key, members in samples:
            if not key or "." in key or "/" in key or key in keys:
                raise UserError(f"sample key {key!r} is empty, repeated, or has a dot or slash")
            keys.add(key)
            block = b"".join(_member(f"{key}.{extension}", data) for extension, data in sorted(members.items()))
            entries.append(Entry(key, offset, len(block), zlib.crc32(block), _shape_of(members)))
            file.write(block)
            digest.update(block)
            offset += len(block)
        file.write(END_OF_ARCHIVE)
        digest.update(END_OF_ARCHIVE)
    size = offset + len(END_OF_ARCHIVE)
    index = ShardIndex(INDEX_VERSION, size, digest.hexdigest(), entries, list(failed))
    with atomic_path(index_path(shard)) as temporary:
        temporary.write_text(json.dumps(asdict(index), indent=1))
    return index


def _shape_of(members: Mapping[str, bytes]) -> Shape | None:
    """What a sample's record says of its grid; None where it has none that can be read, which its reader will say."""
    try:
        record = SampleRecord.from_json(members[META])
    except (KeyError, UserError):
        return None
    return record.views, record.frames, record.height, record.width


def read_index(shard: Path) -> ShardIndex:
    """The index beside a shard, or one made by walking the tar's headers where there is none.

    A walked index has no checksums, and it ends at the first damaged header; what lies before stays usable.

    Raises:
        UserError: the shard or its index cannot be read.
    """
    if not shard.is_file():
        raise UserError(f"no such shard: {shard}")
    path = index_path(shard)
    if not path.is_file():
        return _walk(shard)
    try:
        version = read_json(path, _IndexVersion).version
        if version > INDEX_VERSION:
            raise UserError(f"{path} has index version {version}; this reader knows {INDEX_VERSION}")
        return read_json(path, ShardIndex)
    except UserError as error:
        raise UserError(f"{error}; delete it to read the shard without an index") from error


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a tar member, split as WebDataset does: at the first dot behind the last slash.

    >>> split_name("./train/000017_fox.meta.json")
    ('train/000017_fox', 'meta.json')
    """
    folder, _, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, extension


def _walk(shard: Path) -> ShardIndex:
    starts: list[tuple[str, int, int]] = []
    # What can be read before the first damaged header counts; a sample cut off fails when it is read itself.
    with suppress(tarfile.TarError, EOFError), tarfile.open(shard, mode="r:") as archive:
        for member in archive:
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if member.isfile():
                starts.append((split_name(member.name)[0], member.offset, end))
    entries: list[Entry] = []
    for key, offset, end in starts:
        if entries and entries[-1].key == key:
            entries[-1] = Entry(key, entries[-1].offset, end - entries[-1].offset, None)
        else:
            entries.append(Entry(key, offset, end - offset, None))
    return ShardIndex(INDEX_VERSION, shard.stat().st_size, "", entries, [])


def read_sample(shard: Path, entry: Entry) -> dict[str, bytes]:
    """Members of one sample: extension -> bytes.

    Raises:
        CorruptSampleError: cut off, changed since it was written, or no tar; names shard and key.
    """
    where = f"{shard.name}, sample {entry.key}"
    try:
        with shard.open("rb") as file:
            file.seek(entry.offset)
            block = file.read(entry.size)
    except OSError as error:
        raise CorruptSampleError(f"{where}: cannot be read: {error.strerror}") from error
    if len(block) != entry.size:
        raise CorruptSampleError(f"{where}: cut off, {len(block)} of {entry.size} bytes are there")
    if entry.crc32 is not None and zlib.crc32(block) != entry.crc32:
        raise CorruptSampleError(f"{where}: its checksum is wrong, the file was damaged or changed")
    try:
        with tarfile.open(fileobj=io.BytesIO(block + END_OF_ARCHIVE), mode="r:") as archive:
            members = [(member.name, archive.extractfile(member)) for member in archive if member.isfile()]
            return {split_name(name)[1]: file.read() for name, file in members if file is not None}
    except (tarfile.TarError, EOFError) as error:
        raise CorruptSampleError(f"{where}: no tar member there: {error}") from error


def is_whole(shard: Path, check_bytes: bool = False) -> bool:
    """Whether the shard and its index are there and agree in size (and in sha256 with `check_bytes`)."""
    if not shard.is_file() or not index_path(shard).is_file():
        return False
    try:
        index = read_index(shard)
    except UserError as error:
        log.warning("%s; it is made anew", error)
        return False
    if shard.stat().st_size != index.bytes:
        return False
    if not check_bytes:
        return True
    with shard.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == index.sha256


def find_shards(where: str) -> list[Path]:
    """Shards of a folder (`*.tar`) or a glob, sorted by name.

    Raises:
        UserError: none there.
    """
    folder = Path(where)
    found = folder.glob("*.tar") if folder.is_dir() else folder.parent.glob(folder.name)
    shards = sorted(path for path in found if not path.name.startswith("."))  # those are being written
    if not shards:
        raise UserError(f"no shards (*.tar) at {where}; make some with `viewtime encode`")
    return shards
