"""The audio of `datasets` data sets and streams, undecoded."""

import io
from pathlib import Path
from typing import Any


def load_named_dataset(name: str, split: str) -> Any:
    """Open a `datasets` data set by name or path, or one that was saved to disk."""
    import datasets

    if (Path(name) / "dataset_info.json").is_file():
        return datasets.load_from_disk(name)
    return datasets.load_dataset(name, split=split)


def open_stream(name: str, split: str) -> Any:
    """Open a `datasets` data set by name or path as a stream.

    Returns:
        A `datasets.IterableDataset`; nothing is downloaded before it is read.
    """
    import datasets

    return datasets.load_dataset(name, split=split, streaming=True)


def audio_column(dataset: Any, column: str) -> Any:
    """Keep nothing but the audio of a data set or a stream, undecoded.

    Raises:
        ValueError: there is no such column.
    """
    from datasets import Audio

    if dataset.column_names is not None and column not in dataset.column_names:  # a stream may not know yet
        raise ValueError(f"the data set has no column {column!r}, only {dataset.column_names}")
    return dataset.select_columns([column]).cast_column(column, Audio(decode=False))


def open_audio_cell(audio: dict[str, Any] | None, name: str) -> Any:
    """Return the file of an undecoded audio cell: its bytes, its path, or what lies at its address.

    Raises:
        ValueError: the cell is empty.
    """
    if audio is None or (audio["bytes"] is None and audio["path"] is None):
        raise ValueError(f"{name} holds no audio")
    if audio["bytes"] is not None:
        return io.BytesIO(audio["bytes"])
    if "://" not in audio["path"]:
        return audio["path"]
    import fsspec

    with fsspec.open(audio["path"], "rb") as file:
        return io.BytesIO(file.read())
