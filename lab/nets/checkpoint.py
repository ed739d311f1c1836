"""What a training that takes long leaves behind after each epoch, so that the next call goes on from there.

A run gets a function to report its progress; the file for what is unfinished is its attribute `unfinished`. Where there
is none, as on the workers of a cluster on other machines, nothing is kept and a stopped run starts anew.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lab.files import write_whole

Parts = dict[str, Any]  # by name; each has state_dict and load_state_dict


def save(progress: Callable, parts: Parts, also: dict[str, Any]) -> None:
    """Keep the states of the parts (network, optimizer, ...) and what else is needed to go on: numbers and tensors."""
    if file := _file(progress):
        whole = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"also": also}, whole)
        write_whole(file, whole.getvalue())


def load(progress: Callable, parts: Parts) -> dict[str, Any]:
    """Give the parts the states that were kept; returns what else was, empty where nothing or something damaged was."""
    file = _file(progress)
    if not file or not file.exists():
        return {}
    try:
        kept = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # unpickling damaged bytes raises nearly anything
        return {}
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    return kept["also"]


def _file(progress: Callable) -> Path | None:
    file = getattr(progress, "unfinished", None)
    return file if file and os.access(file.parent, os.W_OK) else None
