"""Weights by name from a model hub, through huggingface_hub: its cache, its resume, its token, its offline switch."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viewtime.errors import UserError, first_line
from viewtime.files import atomic_path
from viewtime.log import log

SCHEME = "hf://"
REFERENCE = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+?))?(:(?P<file>[\w./-]+))?(#sha256=(?P<sha256>[0-9a-fA-F]{64}))?"
)
WEIGHTS_LIMIT = 100  # files of a repository that are listed in an error


@dataclass(frozen=True)
class HubFile:
    """A file of a repository; `file` None stands for its only weights, or a whole diffusers folder.

    Attributes:
        sha256: what its content must have; None takes the hub's own word for it.
        licence: what the user is bound to, one line.
    """

    repo: str
    file: str | None = None
    revision: str | None = None
    sha256: str | None = None
    licence: str = ""


def parse_reference(text: str) -> HubFile | None:
    """`owner/name`, `hf://owner/name@revision:file#sha256=…`; None where the text is no such name.

    Raises:
        UserError: it begins with hf:// and is no reference.
    """
    found = REFERENCE.fullmatch(text.removeprefix(SCHEME))
    if found is None and text.startswith(SCHEME):
        raise UserError(f"{text} is no hub reference; write hf://OWNER/NAME, hf://OWNER/NAME@REVISION:FILE.safetensors")
    return HubFile(**found.groupdict()) if found is not None else None


def fetch(wanted: HubFile, offline: bool = False) -> Path:
    """The file, or for a diffusers folder the folder, in the hub's cache; downloaded where it is not there.

    A broken download goes on where it stopped. The content is held against the checksum that the reference or the hub
    names, once: the verdict is kept beside the cached file.

    Args:
        offline: look into the cache alone; `HF_HUB_OFFLINE` does the same.

    Raises:
        UserError: not there, gated, no network, or of another checksum.
    """
    import huggingface_hub
    from huggingface_hub import constants

    offline = offline or constants.HF_HUB_OFFLINE
    try:
        if wanted.file is None:
            wanted = _choose(wanted, offline)
        if wanted.file is None:
            folder = huggingface_hub.snapshot_download(
                wanted.repo, revision=wanted.revision, local_files_only=offline,
                ignore_patterns=["*.bin", "*.ckpt", "*.pt", "*.pth", "*.msgpack", "*.h5", "*.onnx"],
            )  # fmt: skip
            return Path(folder)
        known = "" if not wanted.licence else f" ({wanted.licence})"
        log.info("weights: %s of %s%s", wanted.file, wanted.repo, known)
        path = huggingface_hub.hf_hub_download(
            wanted.repo, wanted.file, revision=wanted.revision, local_files_only=offline
        )
    except Exception as error:
        raise _explained(wanted, error, offline) from error
    _check(wanted, Path(path), offline)
    return Path(path)


def _choose(wanted: HubFile, offline: bool) -> HubFile:
    """The repository's only weight file by name; unchanged for a diffusers folder."""
    import huggingface_hub

    if offline:
        return _choose_cached(wanted)
    names = huggingface_hub.HfApi().list_repo_files(wanted.repo, revision=wanted.revision)
    return _only_weights(wanted, names)


def _choose_cached(wanted: HubFile) -> HubFile:
    import huggingface_hub

    folder = Path(huggingface_hub.snapshot_download(wanted.repo, revision=wanted.revision, local_files_only=True))
    return _only_weights(wanted, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])


def _only_weights(wanted: HubFile, names: list[str]) -> HubFile:
    if "model_index.json" in names:
        return wanted
    files = sorted(name for name in names if name.endswith(".safetensors"))
    if len(files) == 1:
        return HubFile(wanted.repo, files[0], wanted.revision, wanted.sha256, wanted.licence)
    if not files:
        raise UserError(f"{wanted.repo} holds no .safetensors file; viewtime unpickles nothing that it downloads")
    shown = ", ".join(files[:WEIGHTS_LIMIT])
    raise UserError(f"{wanted.repo} holds {len(files)} weight files; name one: {SCHEME}{wanted.repo}:FILE, of {shown}")


def _check(wanted: HubFile, path: Path, offline: bool) -> None:
    """Hold a file against its checksum, once for each content."""
    import huggingface_hub

    expected = wanted.sha256
    if expected is None and not offline:
        url = huggingface_hub.hf_hub_url(wanted.repo, wanted.file or "", revision=wanted.revision)
        etag = huggingface_hub.get_hf_file_metadata(url).etag or ""
        expected = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    if expected is None:
        return
    content = path.resolve()
    verdict = content.with_name(f"{content.name}.viewtime-sha256")
    if not verdict.is_file():
        digest = hashlib.sha256()
        with content.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
        with atomic_path(verdict) as temporary:
            temporary.write_text(digest.hexdigest())
    found = verdict.read_text().strip()
    if found != expected.lower():
        verdict.unlink()
        if wanted.sha256 is None:
            content.unlink()
        raise UserError(
            f"{wanted.file} of {wanted.repo} has the checksum {found[:12]}…, {expected[:12]}… is right: it is refused; "
            "download it again, or name another revision"
        )


def _explained(wanted: HubFile, error: Exception, offline: bool) -> UserError:
    """The hub's errors in one line with the way out."""
    from huggingface_hub import errors

    if isinstance(error, UserError):
        return error
    name = f"{wanted.file or 'the weights'} of {wanted.repo}"
    licence = f" ({wanted.licence})" if wanted.licence else ""
    if isinstance(error, errors.GatedRepoError):
        return UserError(
            f"{name} are behind a licence{licence}: accept it on https://huggingface.co/{wanted.repo}, "
            "then `hf auth login`, or set HF_TOKEN"
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        why = "offline (--offline or HF_HUB_OFFLINE)" if offline else "the hub cannot be reached"
        return UserError(
            f"{name} are not in the cache, and {why}: run once with a network, or download the file from "
            f"https://huggingface.co/{wanted.repo}{licence} and give the path of a file as --weights"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(f"there is no repository {wanted.repo}, or your token may not see it (HF_TOKEN)")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(f"{wanted.repo} has no revision {wanted.revision}")
    if isinstance(error, errors.EntryNotFoundError):
        return UserError(f"{wanted.repo} has no file {wanted.file} at revision {wanted.revision or 'main'}")
    return UserError(f"{name} cannot be had: {first_line(error)}; give the path of a file as --weights")


def push(folder: Path, repo: str, private: bool = False, message: str = "Weights written by viewtime") -> str:
    """Upload a folder that `save_pretrained` wrote as a model repository, made if absent; the address of the commit.

    Raises:
        UserError: no token, no right to write there, or no network.
    """
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        commit: Any = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:
        said = first_line(error)
        raise UserError(f"cannot push to {repo}: {said}; log in with `hf auth login` or set HF_TOKEN") from error
    return str(commit.commit_url)
