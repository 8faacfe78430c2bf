"""What users of archive data must cite."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


def acknowledgement(*keys: str) -> str:
    """Return what must be cited for surveys and services, each text once.

    Raises
    ------
    ValueError
        If ``acknowledgements.toml`` has no such key.
    """
    texts = _texts()
    unknown = [key for key in keys if key not in texts]
    if unknown:
        raise ValueError(f"no acknowledgement of {', '.join(unknown)}; acknowledgements.toml has {', '.join(texts)}")
    return " ".join(dict.fromkeys(texts[key] for key in keys))


@cache
def _texts() -> dict[str, str]:
    text = files("astrid.archives").joinpath("acknowledgements.toml").read_text(encoding="utf-8")
    return {key: " ".join(str(entry["text"]).split()) for key, entry in tomllib.loads(text).items()}
