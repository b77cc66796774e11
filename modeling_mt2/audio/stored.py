"""The type of a column that holds sound files as they are; needs the package datasets."""

import io
import os
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Audio


class StoredAudio(Audio):
    """`datasets.Audio` for reading and writing sound files as they are, which needs no torchcodec.

    `Audio` imports torchcodec to store even a path. What this class stores is the same, and is read as `Audio`.
    """

    def encode_example(self, value: Any) -> dict[str, Any] | None:
        """Return what is stored of a cell: the bytes of a sound file, its path, or both.

        Args:
            value: path, bytes, dict with "bytes" or "path", or dict with "array", (samples,) or (channels, samples),
                and "sampling_rate", which becomes a WAV file.

        Raises:
            ValueError: it is none of these.
        """
        if value is None:
            return None
        if isinstance(value, str | os.PathLike):
            return {"bytes": None, "path": os.fspath(value)}
        if isinstance(value, bytes | bytearray | memoryview):
            return {"bytes": bytes(value), "path": None}
        if isinstance(value, dict):
            if value.get("array") is not None:
                return {"bytes": _as_wav(value["array"], value["sampling_rate"]), "path": value.get("path")}
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        if hasattr(value, "get_all_samples"):  # a decoder, so torchcodec is there
            return super().encode_example(value)
        raise ValueError(f"a cell of type {type(value).__name__} holds no audio")

    def cast_storage(self, storage: pa.Array) -> pa.StructArray:
        """Return a column of paths, bytes or structs as one of sound files."""
        if pa.types.is_large_string(storage.type):
            storage = storage.cast(pa.string())
        if pa.types.is_null(storage.type):
            storage = pa.nulls(len(storage), self.pa_type)
        if pa.types.is_struct(storage.type) and storage.type.get_all_field_indices("array"):
            return pa.array([self.encode_example(cell) for cell in storage.to_pylist()], type=self.pa_type)
        return super().cast_storage(storage)


def _as_wav(array: Any, sampling_rate: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.asarray(array, np.float32).T, int(sampling_rate), format="WAV", subtype="FLOAT")
    return file.getvalue()
