"""The audio of `datasets` data sets and streams, undecoded: torchcodec and FFmpeg are not needed."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from mt2_music.feature_extraction.decoding import read_audio
from mt2_music.feature_extraction.feature_extraction_mt2 import open_bytes, resample

from .files import AUDIO_SUFFIXES, walk

TABLES = (".parquet", ".arrow")  # in a folder of these, sound files are not the rows
SAVED = ("dataset_info.json", "dataset_dict.json")  # by `save_to_disk`: a data set, and one with splits
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of the sound files beside them


def holds_dataset(folder: Path) -> bool:
    """Tell whether a folder is a data set that was saved, or holds its tables or metadata, not only sound files."""
    if any((folder / name).is_file() for name in SAVED):
        return True
    others = map(Path, walk(str(folder)).others)
    return any(path.name in METADATA or path.suffix.lower() in TABLES for path in others)


def load_named_dataset(name: str, split: str | None) -> Any:
    """Open a `datasets` data set by name or path, or one that was saved to disk.

    Args:
        name: on the Hub; or a folder of Parquet files, of sound files with or without metadata, or a saved data set.
        split: such as "train" or "train[:10%]"; None for all, as a `datasets.DatasetDict`. One that was saved without
            splits is returned whole.

    Raises:
        ValueError, OSError: there is no such data set or split, or it cannot be read.
    """
    import datasets

    saved = _load_saved(name, split)
    if saved is not None:
        return saved
    with _plain_errors(name):
        builder = _builder(name)
        if not _is_folder_of_sounds(builder, name):
            with _audio_as_stored(builder, decode=True):
                builder.download_and_prepare()
            return builder.as_dataset(split=split)
        # Rows are paths, so there is nothing to cache; and `datasets` would cache its own choice of suffixes.
        with _audio_as_stored(builder, decode=False):
            streams = builder.as_streaming_dataset()
        splits = {one: datasets.Dataset.from_list(list(rows), rows.features) for one, rows in streams.items()}
        return _part_of(datasets.DatasetDict(splits), split)


def open_stream(name: str, split: str) -> Any:
    """Open a `datasets` data set as `load_named_dataset` does, but as a stream.

    Returns:
        A `datasets.IterableDataset`; nothing is downloaded before it is read.
    """
    saved = _load_saved(name, split)
    if saved is not None:
        return saved.to_iterable_dataset()
    with _plain_errors(name):
        builder = _builder(name)
        with _audio_as_stored(builder, decode=False):
            return builder.as_streaming_dataset(split=split)


def _load_saved(name: str, split: str | None) -> Any:
    import datasets

    if not any((Path(name) / file).is_file() for file in SAVED):
        return None
    with _plain_errors(name):
        saved = datasets.load_from_disk(name)
    return _part_of(saved, split) if isinstance(saved, dict) else saved


def _part_of(splits: Any, split: str | None) -> Any:
    """Return what a split such as "train", "train[:10%]" or "train+test" says."""
    import datasets

    if split is None:
        return splits
    parts = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(rows) for name, rows in splits.items()})
    return datasets.concatenate_datasets([splits[one.splitname].select(range(one.from_, one.to)) for one in parts])


def _builder(name: str) -> Any:
    import datasets

    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "README.md").is_file():  # which may say what belongs to the data set
        found = walk(str(folder))
        others = [path for path in map(Path, found.others) if path.name not in METADATA]
        if found.files and not any(path.suffix.lower() in TABLES for path in others):
            # `datasets` goes by what there is most of, such as pictures of covers, and does not know all suffixes.
            return datasets.load_dataset_builder("audiofolder", data_dir=escape(str(folder)))
    return datasets.load_dataset_builder(name)


def _is_folder_of_sounds(builder: Any, name: str) -> bool:
    from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder

    return isinstance(builder, AudioFolder) and Path(name).expanduser().is_dir()


@contextmanager
def _audio_as_stored(builder: Any, decode: bool) -> Iterator[None]:
    """Let a builder of `datasets` make rows of sound files without torchcodec, inside the `with` block.

    Args:
        builder: it finds out its columns, and their types, together with its splits.
        decode: as in `Audio`: what the cache says of the columns is to be what `datasets` alone would say.
    """
    find_splits = builder._split_generators

    def find_splits_and_types(*arguments: Any, **options: Any) -> Any:
        splits = find_splits(*arguments, **options)
        builder.info.features = _stored(builder.info.features, decode)
        return splits

    if not decode and hasattr(builder, "EXTENSIONS"):  # nothing is cached, so that more of the files can be rows
        builder.EXTENSIONS = sorted({*builder.EXTENSIONS, *AUDIO_SUFFIXES})
    if hasattr(builder.config, "decode_num_threads"):  # streams from the Hub would be decoded at once
        builder.config.decode_num_threads = 0
    builder._split_generators = find_splits_and_types
    try:
        yield
    finally:
        del builder._split_generators


def _stored(feature: Any, decode: bool) -> Any:
    """Return features, or one, with `StoredAudio` in the place of `Audio`."""
    from datasets import Audio

    from .stored import StoredAudio

    if isinstance(feature, Audio):
        return StoredAudio(sampling_rate=feature.sampling_rate, decode=decode)
    if isinstance(feature, dict):
        return type(feature)({name: _stored(inner, decode) for name, inner in feature.items()})
    if isinstance(feature, list):
        return [_stored(inner, decode) for inner in feature]
    if hasattr(feature, "feature"):
        return type(feature)(_stored(feature.feature, decode))
    return feature


@contextmanager
def decoding_without_torchcodec() -> Iterator[None]:
    """Let code that is not ours use `datasets.Audio` where torchcodec is missing, inside the `with` block.

    A cell is decoded by this package then, to a dict: "array" of float32 (samples,), the mean of the channels;
    "sampling_rate"; "path". This is what programs ask of a decoder of torchcodec, which answers like a dict.
    """
    from datasets import Audio, config

    from .stored import StoredAudio

    def decode_example(self: Any, value: Any, token_per_repo_id: Any = None) -> Any:  # noqa: ARG001
        if not isinstance(value, dict) or "array" in value:
            return value
        samples, rate = read_audio(open_audio_cell(value, "the cell"))
        wanted = self.sampling_rate or rate
        return {"path": value.get("path"), "array": resample(samples, rate, wanted), "sampling_rate": wanted}

    def encode_example(self: Any, value: Any) -> Any:  # noqa: ARG001
        return StoredAudio().encode_example(value)

    before = Audio.decode_example, Audio.encode_example
    if not config.TORCHCODEC_AVAILABLE:
        Audio.decode_example, Audio.encode_example = decode_example, encode_example
    try:
        yield
    finally:
        Audio.decode_example, Audio.encode_example = before


@contextmanager
def _plain_errors(name: str) -> Iterator[None]:
    """Raise what `datasets` raises while it reads as ValueError, with the cause and not with its history."""
    from datasets.exceptions import DatasetsError
    from pyarrow import ArrowException

    try:
        yield
    except (DatasetsError, ArrowException) as error:
        if isinstance(error, OSError):
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(f"the data set {name} cannot be read: {cause}") from error


def audio_column(dataset: Any, column: str) -> Any:
    """Keep nothing but the audio of a data set or a stream, undecoded.

    Args:
        dataset: its column may be of `Audio`, or hold paths, bytes of sound files, or dicts of these.
        column: its name.

    Raises:
        ValueError: there is no such column, or it cannot hold audio.
    """
    from datasets import Audio, Dataset, Features, Value

    from .stored import StoredAudio

    names, features = dataset.column_names, dataset.features
    if names is None:  # of a stream, as of a CSV table
        names = list(next(iter(dataset.take(1)), {column: None}))
    if column not in names:
        raise ValueError(f"the data set has no column {column!r}, only {names}")
    if features is not None and not _may_hold_audio(features[column]):
        raise ValueError(f"the column {column!r} holds {features[column]}, and no audio")
    rows = dataset.select_columns([column])
    if not isinstance(dataset, Dataset):
        return rows.cast(Features({column: StoredAudio(decode=False)}))
    # A table is cast by what `datasets` makes of its types, so `StoredAudio` has to act before that.
    if isinstance(features[column], dict) and "array" in features[column]:
        types = Features({column: {"bytes": Value("binary"), "path": Value("string")}})
        rows = rows.map(_arrays_to_files, fn_kwargs={"column": column}, features=types)
    elif getattr(features[column], "dtype", "") == "large_string":
        rows = rows.cast_column(column, Value("string"))
    return rows.cast_column(column, Audio(decode=False))


def _arrays_to_files(row: dict[str, Any], column: str) -> dict[str, Any]:
    from .stored import StoredAudio

    return {column: StoredAudio().encode_example(row[column])}


def _may_hold_audio(feature: Any) -> bool:
    from datasets import Audio

    if isinstance(feature, dict):
        return bool(feature.keys() & {"array", "bytes", "path"})
    return isinstance(feature, Audio) or getattr(feature, "dtype", "") in (
        "string",
        "large_string",
        "binary",
        "large_binary",
        "null",
    )


def open_audio_cell(audio: dict[str, Any] | None, name: str) -> Any:
    """Return the file of an undecoded audio cell: its bytes, its path, or what lies at its address.

    Raises:
        ValueError: the cell is empty, holds something else, or nothing is installed to read that address.
    """
    path, data = (None, None) if audio is None else (audio.get("path"), audio.get("bytes"))
    if isinstance(data, bytes | bytearray | memoryview):
        return open_bytes(data)
    if data is not None or not isinstance(path, str | os.PathLike | None):
        wrong = "bytes" if data is not None else "path"
        got = type(path if data is None else data).__name__
        raise ValueError(f"{name} holds no audio: {wrong!r} is of type {got}")
    if not path:
        raise ValueError(f"{name} holds no audio")
    if "://" not in os.fspath(path):
        return path
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return io.BytesIO(file.read())
    except ImportError as error:  # of a package for this kind of address
        raise ValueError(f"{name} cannot be opened: {error}") from error
