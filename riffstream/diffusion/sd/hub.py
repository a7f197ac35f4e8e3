"""Download of checkpoints from the Hugging Face hub: only required files, optionally pinned to a commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from riffstream.errors import CheckpointError

__all__ = ["download", "is_hub_id"]

# All files of a checkpoint folder without executable code. Weights at the top level are single-file copies of the same
# model, except for the opening sounds of a mini model, their reader and its ear. ``fp16`` and ``non_ema`` files are
# second copies of a part. A part with only ``fp16`` files is fetched in a second step.
WANTED = ["*.json", "*/*.txt", "*/*.safetensors", "sounds.safetensors", "reader.safetensors", "ear.safetensors"]
HALF = "*.fp16.*"
UNWANTED = [HALF, "*non_ema*", "safety_checker/*", "feature_extractor/*", "image_encoder/*", "*/*/*"]


def is_hub_id(source: str) -> bool:
    """Whether ``source`` has the form ``owner/name``."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source) is not None


def download(
    repository: str, revision: str | None = None, *, progress: bool = True, wanted: Sequence[str] = WANTED
) -> Path:
    """Download a checkpoint into the hub's cache, unless it is there.

    Args:
        repository: ``owner/name``.
        revision: branch, tag or commit; a commit pins the weights.
        progress: True shows a progress bar on stderr.
        wanted: patterns of the files to download.

    Returns:
        The folder in the cache.

    Raises:
        CheckpointError: no such repository or revision, a login is required, or the hub cannot be reached and the
            checkpoint is not in the cache.
    """
    from huggingface_hub import errors, snapshot_download
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["disable"] = None if progress else True
            kwargs.pop("name", None)  # the hub's own addition
            super().__init__(*args, **kwargs)

    what = f"{repository} at {revision}" if revision else repository

    def fetch(wanted: Sequence[str], unwanted: Sequence[str]) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(wanted),
                ignore_patterns=list(unwanted),
                tqdm_class=Bar,
            )
        )

    try:
        folder = fetch(wanted, UNWANTED)
        if bare := _without_weights(folder):
            fetch([f"{part}/{HALF}" for part in bare], [each for each in UNWANTED if each != HALF])
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{repository} asks its users to log in and accept its terms: accept them on huggingface.co/{repository}, "
            "then run 'hf auth login' or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{repository} has no revision {revision}") from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"there is no checkpoint {repository} on the hub (or it is private), and no such folder here"
        ) from None
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{what} is not in the cache and the hub cannot be reached ({reason}). Download it on a connected "
            f"machine with 'hf download {repository}', copy the folder, and give its path; or use 'mini', which needs "
            "no download"
        ) from None
    return folder


def _without_weights(folder: Path) -> list[str]:
    """Parts of a network with a config but without weights."""
    parts = [path.parent for path in sorted(folder.glob("*/config.json"))]
    return [part.name for part in parts if not any(part.glob("*.safetensors"))]
