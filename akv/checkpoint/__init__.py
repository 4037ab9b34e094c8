"""Checkpoints on disk: safetensors files for the arrays, one JSON manifest for all else, see docs/checkpoints.md.

A checkpoint is a folder. Each server of a cluster, or a single store as the only one, writes its shard: a file of
values, and one of optimizer states if there are any. The manifest comes last, and only it makes a checkpoint of them.
"""

from __future__ import annotations

from akv.checkpoint.contents import Contents
from akv.checkpoint.manifest import Entry, Manifest
from akv.checkpoint.reading import Reader, open_checkpoint
from akv.checkpoint.writing import Writer, open_writer, sources

__all__ = ["Contents", "Entry", "Manifest", "Reader", "Writer", "open_checkpoint", "open_writer", "sources"]
