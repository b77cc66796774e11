"""What a file is, by its first bytes, and who decodes it."""

from dataclasses import dataclass

from .mpeg import after_id3, mpeg_header, next_frame
from .pieces import FFMPEG, LIBSNDFILE, NO_SOUND, Bytes

HEAD_BYTES = 65536  # of a file that are looked at


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Args:
        name: for people, such as "AAC in MP4".
        decoder: LIBSNDFILE, FFMPEG or NO_SOUND.
    """

    name: str
    decoder: str


# Where the bytes lie, what they are, and of what.
SIGNATURES: list[tuple[int, bytes, str, str]] = [
    (0, b"fLaC", "FLAC", LIBSNDFILE),
    (0, b"OggS", "Ogg", LIBSNDFILE),
    (8, b"WAVE", "WAV", LIBSNDFILE),
    (8, b"AIFF", "AIFF", LIBSNDFILE),
    (8, b"AIFC", "AIFF", LIBSNDFILE),
    (0, b".snd", "AU", LIBSNDFILE),
    (0, b"dns.", "AU", LIBSNDFILE),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64", LIBSNDFILE),
    (0, b"caff", "CAF", LIBSNDFILE),
    (0, b"Creative Voice File", "VOC", LIBSNDFILE),
    (0, b"NIST_1A", "NIST", LIBSNDFILE),
    (8, b"8SVX", "8SVX", LIBSNDFILE),
    (0, b"PVF1", "PVF", LIBSNDFILE),
    (0, b"MATLAB", "MATLAB", LIBSNDFILE),
    (0, b" paf", "PAF", LIBSNDFILE),
    (0, b"fap ", "PAF", LIBSNDFILE),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media", FFMPEG),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM", FFMPEG),
    (0, b"ADIF", "AAC", FFMPEG),
    (0, b"\x0b\x77", "AC-3", FFMPEG),
    (0, b"\x7f\xfe\x80\x01", "DTS", FFMPEG),
    (0, b"wvpk", "WavPack", FFMPEG),
    (0, b"MAC ", "Monkey's Audio", FFMPEG),
    (0, b"TTA1", "True Audio", FFMPEG),
    (0, b"MPCK", "Musepack", FFMPEG),
    (0, b"MP+", "Musepack", FFMPEG),
    (0, b"tBaK", "TAK", FFMPEG),
    (0, b"ajkg", "Shorten", FFMPEG),
    (0, b"DSD ", "DSD", FFMPEG),
    (0, b"FRM8", "DSD", FFMPEG),
    (0, b"#!AMR", "AMR", FFMPEG),
    (0, b".ra\xfd", "RealAudio", FFMPEG),
    (0, b".RMF", "RealMedia", FFMPEG),
    (8, b"AVI ", "AVI video", FFMPEG),
    (0, b"FLV\x01", "Flash video", FFMPEG),
    (0, b"\x00\x00\x01\xba", "MPEG video", FFMPEG),
    (0, b"\x00\x05\x16\x07", "what macOS stores beside a file (AppleDouble)", NO_SOUND),
    (0, b"MThd", "a MIDI file", NO_SOUND),
    (8, b"RMID", "a MIDI file", NO_SOUND),
    (8, b"sfbk", "a SoundFont", NO_SOUND),
    (8, b"WEBP", "an image", NO_SOUND),
    (0, b"PK\x03\x04", "a ZIP archive", NO_SOUND),
    (0, b"PK\x05\x06", "a ZIP archive", NO_SOUND),
    (0, b"Rar!\x1a", "a RAR archive", NO_SOUND),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", NO_SOUND),
    (0, b"\x1f\x8b", "a gzip archive", NO_SOUND),
    (0, b"BZh", "a bzip2 archive", NO_SOUND),
    (0, b"\xfd7zXZ", "an xz archive", NO_SOUND),
    (257, b"ustar", "a tar archive", NO_SOUND),
    (0, b"\xff\xd8\xff", "an image", NO_SOUND),
    (0, b"\x89PNG", "an image", NO_SOUND),
    (0, b"GIF8", "an image", NO_SOUND),
    (0, b"II*\x00", "an image", NO_SOUND),
    (0, b"MM\x00*", "an image", NO_SOUND),
    (0, b"%PDF", "a PDF document", NO_SOUND),
    (0, b"\x7fELF", "a program", NO_SOUND),
    (0, b"SQLite format 3", "a database", NO_SOUND),
    (0, b"\x93NUMPY", "a NumPy array", NO_SOUND),
    (0, b"bplist", "a property list", NO_SOUND),
    (0, b"version https://git-lfs", "a pointer of Git LFS: the sound itself was not downloaded", NO_SOUND),
]
TEXTS = [
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"#extm3u", "a playlist"),
    (b"[playlist]", "a playlist"),
    (b"<asx", "a playlist"),
    (b"<?xml", "XML"),
    (b"{\\rtf", "a text document"),
    (b"{", "text"),
    (b"<", "HTML or XML"),
]


def kind_of(data: Bytes) -> Kind:
    """Tell what a file is by its bytes."""
    if not data.size:
        return Kind("an empty file", NO_SOUND)
    head = data.at(0, HEAD_BYTES)
    for place, wanted, name, decoder in SIGNATURES:
        if head.startswith(wanted, place):
            return Kind(name, decoder)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"skip"):
        return _kind_of_mp4(data)
    if head[:2] in (b"\xff\xf1", b"\xff\xf9", b"\xff\xf0", b"\xff\xf8") and mpeg_header(head[:4]) is None:
        return Kind("AAC", FFMPEG)
    if head[:1] == b"G" and head[188:189] == b"G" and head[376:377] == b"G":
        return Kind("MPEG video", FFMPEG)
    if start := after_id3(data, 0):
        tagged = kind_of(data.behind(start))
        return tagged if is_sound(tagged) else Kind("a tag (ID3) without sound behind it", NO_SOUND)
    if next_frame(data, 0, min(data.size, 4 * HEAD_BYTES)) is not None:
        return Kind("MP3", LIBSNDFILE)
    return _text_or_unknown(head)


def is_sound(kind: Kind) -> bool:
    """Tell whether bytes are surely those of a sound file."""
    return kind.decoder != NO_SOUND and kind != UNKNOWN


MP4_CODES = ((b"drms", "protected AAC"), (b"aavd", "protected AAC"), (b"alac", "ALAC"), (b"mp4a", "AAC"))
MP4_KINDS = ("MP4", *(f"{name} in MP4" for _, name in MP4_CODES))


def _kind_of_mp4(data: Bytes) -> Kind:
    ends = data.at(0, HEAD_BYTES) + data.at(max(0, data.size - 16 * HEAD_BYTES), 16 * HEAD_BYTES)
    if ends[8:12] in (b"avif", b"heic", b"heix", b"mif1"):
        return Kind("an image", NO_SOUND)
    for code, name in MP4_CODES:
        if code in ends:
            return Kind(f"{name} in MP4", FFMPEG)
    return Kind("MP4", FFMPEG)


UNKNOWN = Kind("in no known format", LIBSNDFILE)  # which knows some that have no signature


def _text_or_unknown(head: bytes) -> Kind:
    if not any(head):
        return Kind("nothing but zeros", NO_SOUND)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Kind("text", NO_SOUND)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, name in TEXTS:
        if text[: len(start)].lower() == start:
            return Kind(name, NO_SOUND)
    if any(byte < 9 for byte in head[:4096]):
        return UNKNOWN
    try:
        text[:4096].decode()
    except UnicodeDecodeError as error:
        if error.start < len(text[:4096]) - 4:  # more than a character that was cut
            return UNKNOWN
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    listed = lines and all(line.lower().endswith((b".mp3", b".flac", b".ogg", b".wav", b".m4a")) for line in lines)
    return Kind("a playlist" if listed else "text", NO_SOUND)
