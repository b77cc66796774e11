"""The front door: `mt2_music.load` returns a model with its feature extractor, which takes songs as they are."""

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from glob import has_magic
from operator import attrgetter
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mt2_music.feature_extraction.decoding import rewindable
from mt2_music.feature_extraction.feature_extraction_mt2 import AudioWarning, as_clips

from .audio.files import audio_files, printable, printable_names
from .collection.index import IndexReport, SongFile, find_songs, refresh_index
from .collection.searchable import open_embeddings
from .collection.similar import ALL_KEYS, similar_songs
from .collection.tables import Embeddings, collect_embeddings
from .configuration_mt2 import MT2Config
from .feature_extraction import MT2FeatureExtractor
from .loading import (
    Provenance,
    default_device,
    find_model,
    load_extractor,
    load_published,
    provenance,
)
from .modeling_mt2 import WINDOWS_PER_CHUNK, MT2Model, MT2PreTrainedModel
from .options import DEFAULT_MODEL, NUM_SIMILAR, VECTORS
from .song.analysis import SongAnalysis, analyse_song, check_analyses
from .song.embed import SONG_ERRORS, SongEmbedding, embed_audio, reason_of, whole_number
from .song.keys import check_names_keys, song_key

SILENT = "the song is silent, and what is similar to it means nothing"


def load(
    name: str | Path = DEFAULT_MODEL,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> "MusicModel":
    """Load a model for use.

    Args:
        name: short name of a model that comes with the package (see `mt2_music.list_models`), folder or Hub name; the
            default knows both keys and key signatures.
        device: where to compute, such as "cpu" or "cuda" (default: a GPU where there is one).
        dtype: of the weights, such as "bfloat16" (default: as they are stored, which is float32 for ours).

    Raises:
        ValueError: another kind of model, one that lacks weights, or no such device or dtype.
        OSError: nothing is there.
    """
    model = load_published(name, default_device() if device is None else device, dtype)
    return MusicModel(name, model, load_extractor(name))


@dataclass(frozen=True)
class FailedSong:
    """Stands in the place of a song of a list or folder that could not be used; it counts as false.

    So `[song for song in songs if song]` are the others. Using it as a result raises an error that says what happened.

    Args:
        file: its path, or its place in the list, such as "song 3".
        error: why it could not be used.
    """

    file: str
    error: str

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"no {name!r}: {self.file} could not be used: {self.error}")


class MusicModel:
    """A published model and its feature extractor: songs to embeddings, keys and similar songs.

    All methods take one song, and return one result or raise: a path, the bytes of a sound file or an open one,
    samples with their `sampling_rate`, or a `datasets` audio dict, in whose array channels come first. They also take
    many:

    * a list, or an array (songs, samples): the results come as a list of the same length;
    * a folder, or a glob such as "music/*.flac": as a dict, by the paths of the audio files in and below it.

    There, a song that cannot be used does not stop the others: a `FailedSong`, which names it and the reason, takes
    the place of its result.

    Args:
        name: folder, Hub name or short name that both were loaded from.
        model: in evaluation mode.
        extractor: the feature extractor published with it.
    """

    def __init__(self, name: str | Path, model: MT2PreTrainedModel, extractor: MT2FeatureExtractor) -> None:
        self.name = Path(name).name if Path(find_model(name)).is_dir() else str(name)
        self.model = model
        self.extractor = extractor
        self.source: Provenance = provenance(name, model, extractor)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {type(self.model).__name__} on {self.model.device})"

    @property
    def config(self) -> MT2Config:
        """Settings of the model."""
        return self.model.config

    @property
    def encoder(self) -> MT2Model:
        """The model without its heads."""
        return self.model if isinstance(self.model, MT2Model) else self.model.mt2  # type: ignore[return-value]

    def embed(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        *,
        frames: bool = False,
        hop_seconds: float | None = None,
        transposition: int = 0,
        batch_size: int = WINDOWS_PER_CHUNK,
    ) -> Any:
        """Embed a song, or many.

        Args:
            audio: one song, a list, or a folder.
            sampling_rate: of samples, in hertz; files know theirs.
            frames, hop_seconds, transposition, batch_size: as of `mt2_music.song.embed.embed_audio`.

        Returns:
            A `SongEmbedding`; of many songs a list or dict of them, as the class says.

        Raises:
            ValueError: an option that makes no sense; or the one song cannot be used, and the message says why.
            FileNotFoundError: a path that does not exist, or a folder without audio.
        """
        options: dict[str, Any] = {
            "frames": frames,
            "hop_seconds": hop_seconds,
            "transposition": transposition,
            "batch_size": batch_size,
        }
        return self._each(partial(self._embed_one, **options), audio, sampling_rate)

    def _embed_one(self, audio: Any, sampling_rate: int | None, **options: Any) -> SongEmbedding:
        return replace(embed_audio(self.encoder, self.extractor, audio, sampling_rate, **options), source=self.source)

    def key(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        transpositions: int | None = None,
        always: bool = False,
    ) -> Any:
        """Name the key of a song, or of many.

        A model names what it was published with: "mt2-small-key" a key, "mt2-small" a key signature. Silence, noise,
        drums alone, speech and music without a tonal centre have no key: the estimate's `key` is None then, and its
        `reason` says why.

        Args:
            audio: one song, a list, or a folder.
            sampling_rate: of samples, in hertz; files know theirs.
            transpositions: semitones up and down to average over: more are steadier, and slower; 1 if not given, and 0
                for a model without room to transpose.
            always: name the likeliest key of a song that has none, too.

        Returns:
            A `KeyEstimate`; of many songs a list or dict of them, as the class says.

        Raises:
            ValueError: the model names neither; or the one song cannot be used.
            FileNotFoundError: a path that does not exist, or a folder without audio.
        """
        check_names_keys(self.model)
        if transpositions is not None:
            whole_number("transpositions", transpositions)
        name_key = partial(song_key, self.model, self.extractor, transpositions=transpositions, always=always)
        return self._each(name_key, audio, sampling_rate)

    def index(
        self,
        places: "str | Path | Sequence[str | Path]",
        output: str | Path,
        *,
        keep_missing: bool = False,
        batch_size: int = WINDOWS_PER_CHUNK,
    ) -> IndexReport:
        """Make an index of songs for `similar`, or bring one up to date: only what changed is embedded again.

        Args:
            places: folders, globs and files, or one of them.
            output: file (.npz, .parquet, .arrow), or a folder for large collections.
            keep_missing: keep songs in the index whose files are gone.
            batch_size: windows encoded at once; changes memory and speed, and no result.

        Returns:
            What was done, by songs; files that cannot be used are in its `failures`, and do not stop the others.

        Raises:
            ValueError: the output cannot be written, is another model's, or another process writes to it.
        """
        names = [places] if isinstance(places, str | PathLike) else places
        options = {"keep_missing": keep_missing, "batch_size": batch_size}
        return self.refresh(find_songs([fspath(name) for name in names]), output, **options)

    def refresh(
        self,
        songs: Iterable[SongFile],
        output: str | Path,
        *,
        batch_size: int = WINDOWS_PER_CHUNK,
        **options: Any,
    ) -> IndexReport:
        """Do what `index` does for songs that were listed; options are those of `refresh_index`."""
        embed = partial(self._embed_one, sampling_rate=None, batch_size=batch_size)
        rate = self.extractor.sampling_rate
        self._embed_one(np.zeros(rate, np.float32), rate, batch_size=batch_size)  # options are refused once
        return refresh_index(Path(output), songs, embed, self.source, **options)

    def analyze(self, audio: Any, sampling_rate: int | None = None) -> Any:
        """Find the key, keys over time, chords, beats and tempo of a song, or of many.

        Args:
            audio: one song, a list, or a folder.
            sampling_rate: of samples, in hertz; files know theirs.

        Returns:
            A `SongAnalysis`; of many songs a list or dict of them, as the class says.

        Raises:
            ValueError: the model finds no chords and beats; or the one song cannot be used.
            FileNotFoundError: a path that does not exist, or a folder without audio.
        """
        return self._each(self._analyser(lambda analysis: analysis), audio, sampling_rate)

    def keys(self, audio: Any, sampling_rate: int | None = None) -> Any:
        """Find the keys of a song over time: a `Timeline` of `KeySegment`. Songs, errors: as `analyze`."""
        return self._each(self._analyser(attrgetter("keys")), audio, sampling_rate)

    def chords(self, audio: Any, sampling_rate: int | None = None) -> Any:
        """Find the chords of a song: a `Timeline` of `ChordSegment`. Songs, errors: as `analyze`."""
        return self._each(self._analyser(attrgetter("chords")), audio, sampling_rate)

    def beats(self, audio: Any, sampling_rate: int | None = None) -> Any:
        """Find the beats of a song, with their places in the bars: `Beats`. Songs, errors: as `analyze`."""
        return self._each(self._analyser(attrgetter("beats")), audio, sampling_rate)

    def tempo(self, audio: Any, sampling_rate: int | None = None) -> Any:
        """Find the tempo of a song in beats per minute; None without beats. Songs, errors: as `analyze`."""
        return self._each(self._analyser(attrgetter("tempo")), audio, sampling_rate)

    def _analyser(self, part: Callable[[SongAnalysis], Any]) -> Callable[[Any, int | None], Any]:
        check_analyses(self.model)
        model: Any = self.model
        return lambda audio, sampling_rate: part(analyse_song(model, self.extractor, audio, sampling_rate))

    def similar(
        self,
        audio: Any,
        index: "Embeddings | Mapping[str, SongEmbedding] | str | Path | Sequence[str | Path]",
        sampling_rate: int | None = None,
        *,
        by: str = "mean",
        number: int = NUM_SIMILAR,
        any_key: bool = False,
        no_duplicates: bool = False,
    ) -> Any:
        """Find the songs of an index that are most similar to a song, or to each of many.

        Args:
            audio: one song, a list, or a folder.
            index: what `embed` returned for a folder; or what `mt2 index` or `mt2 embed` wrote: files and folders.
            sampling_rate: of samples, in hertz; files know theirs.
            by: "contrastive" for how a song sounds, "equivariant" for key and harmony, "mean" for both.
            number: how many songs.
            any_key: whatever the keys: pitch the song to all twelve, and take the most similar.
            no_duplicates: leave out what is the same recording as the song, or as one that is more similar.

        Returns:
            File and similarity of the songs, the most similar first, without the song itself; of many songs a list or
            dict of such lists, as the class says.

        Raises:
            ValueError: the index is another model's, or has no such vector; or the one song cannot be used.
            FileNotFoundError: a path that does not exist, or a folder without audio.
        """
        songs = self.open_index(index, ("mean", by))

        def find(song: Any, rate: int | None) -> list[tuple[str, float]]:
            shifts = ALL_KEYS if any_key else [0]
            song = rewindable(song)
            readings = [self._embed_one(song, rate, transposition=shift) for shift in shifts]
            if not readings[0].sounding:
                warnings.warn(SILENT, AudioWarning, stacklevel=2)
            return similar_songs(songs, readings, by, number, song, no_duplicates)

        return self._each(find, audio, sampling_rate)

    def open_index(
        self,
        index: "Embeddings | Mapping[str, SongEmbedding] | str | Path | Sequence[str | Path]",
        names: Collection[str] = VECTORS,
    ) -> Embeddings:
        """Open an index for `similar`, which takes the result too: to ask for many songs one by one.

        Args:
            index: as for `similar`.
            names: of the vectors to read: "mean", and what will be compared.

        Raises:
            ValueError: it is another model's, or not an index.
        """
        if isinstance(index, Mapping):
            index = collect_embeddings({name: song for name, song in index.items() if song})
        elif not isinstance(index, Embeddings):
            given: Any = index
            is_list = isinstance(given, Iterable) and not isinstance(given, str | PathLike)
            places = list(given) if is_list else [given]
            others = [place for place in places if not isinstance(place, str | PathLike)]
            if others:
                raise ValueError(
                    f"an index is what `mt2 index` or `mt2 embed` wrote, or songs by name, such as "
                    f"{{name: model.embed(song)}}, and no {type(others[0]).__name__}"
                )
            index = open_embeddings(places, names)
        if not index.source.fits(self.source):
            raise ValueError(f"the index is of {' '.join(index.source)}, the model of {' '.join(self.source)}")
        return index

    def _each(self, work: Callable[[Any, int | None], Any], audio: Any, sampling_rate: int | None) -> Any:
        """Do the work for one song, for every one of a list, or for every file of a folder or glob."""
        songs = as_clips(audio)
        if songs is not None:
            self._try_options(work)
            names = [fspath(song) if isinstance(song, str | PathLike) else f"song {i}" for i, song in enumerate(songs)]
            pairs = zip(names, songs, strict=True)
            return [_attempt(work, song, sampling_rate, printable(name)) for name, song in pairs]
        if isinstance(audio, str | PathLike):
            path = fspath(audio)
            if os.path.isdir(path) or (has_magic(path) and not os.path.exists(path)):
                files = audio_files([path])
                if files == [path]:
                    raise FileNotFoundError(f"there are no audio files in {path}")
                self._try_options(work)
                return {name: _attempt(work, file, sampling_rate, name) for name, file in printable_names(files)}
        return work(audio, sampling_rate)

    def _try_options(self, work: Callable[[Any, int | None], Any]) -> None:
        """Let options that make no sense be refused once, and not for every song."""
        rate = self.extractor.sampling_rate
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            work(np.zeros(rate, np.float32), rate)


def _attempt(work: Callable[[Any, int | None], Any], song: Any, sampling_rate: int | None, name: str) -> Any:
    try:
        return work(song, sampling_rate)
    except SONG_ERRORS as error:
        return FailedSong(name, reason_of(error))
