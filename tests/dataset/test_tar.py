"""One list of samples has one byte sequence, and any tar reader reads it."""

import io
import os
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mesm_data.dataset.members import decode_faces, encode_faces
from mesm_data.dataset.pack import split_into_shards
from mesm_data.dataset.tar import BLOCK, MAX_KEY, SampleWriter, check_key, padded_size, tar_end, tar_header
from mesm_data.media.wav import decode_wav, encode_wav

keys = st.text("abcXYZ019_-", min_size=1, max_size=40)
samples = st.dictionaries(
    keys,
    st.dictionaries(st.sampled_from(["faces.npy", "json", "txt", "wav"]), st.binary(max_size=1500), min_size=1),
    max_size=5,
)


def written(items: dict[str, dict[str, bytes]]) -> tuple[bytes, dict[str, dict[str, int]]]:
    buffer = io.BytesIO()
    with SampleWriter(buffer) as writer:
        offsets = {key: writer.write(key, members) for key, members in items.items()}
    return buffer.getvalue(), offsets


@given(samples)
def test_the_bytes_follow_the_ustar_specification(items: dict[str, dict[str, bytes]]) -> None:
    """Against tarfile in USTAR format, given the fields that the format fixes."""
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in items.items():
            for extension in sorted(members):
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size, info.mode = len(members[extension]), 0o644
                tar.addfile(info, io.BytesIO(members[extension]))
    data, offsets = written(items)
    assert data == expected.getvalue()
    for key, members in items.items():
        for extension, content in members.items():
            offset = offsets[key][extension]
            assert offset % BLOCK == 0
            assert data[offset : offset + len(content)] == content
            assert data[offset - BLOCK : offset] == tar_header(f"{key}.{extension}", len(content))


def test_webdatasets_own_writer_writes_the_same() -> None:
    from webdataset import TarWriter

    items = {"a": {"wav": b"w" * 700, "json": b"{}", "txt": b"", "faces.npy": b"n" * 512}, "b-2": {"txt": b"t"}}
    expected = io.BytesIO()
    with TarWriter(expected, user="", group="", mode=0o644, mtime=0, encoder=False, compress=False) as writer:
        for key, members in items.items():
            writer.write({"__key__": key, **members})
    assert written(items)[0] == expected.getvalue()


@given(samples)
def test_a_sample_has_the_same_blocks_wherever_it_stands(items: dict[str, dict[str, bytes]]) -> None:
    """What lets a shard be put together from parts."""
    blocks = b""
    for key, members in items.items():
        size = sum(BLOCK + padded_size(len(content)) for content in members.values())
        blocks += written({key: members})[0][:size]
    assert written(items)[0] == blocks + tar_end(len(blocks))


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "..", "é", "a\0b", "x" * (MAX_KEY + 1), "a\\b"])
def test_a_key_that_readers_would_split_or_escape_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="cannot be a sample key"):
        check_key(key)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 5), st.just(3))))
def test_faces_are_plain_npy_whose_pixels_start_at_byte_128(faces: np.ndarray) -> None:  # type: ignore[type-arg]
    member = encode_faces(faces)
    for read in (np.load(io.BytesIO(member)), decode_faces(member)):
        assert read.shape == faces.shape
        assert np.array_equal(read, faces)
    assert member[128:] == faces.tobytes()


@given(arrays.arrays(np.int16, st.integers(0, 600)))
def test_sound_is_plain_wav_whose_samples_start_at_byte_44(sound: np.ndarray) -> None:  # type: ignore[type-arg]
    import soundfile

    member = encode_wav(sound)
    read, rate = soundfile.read(io.BytesIO(member), dtype="int16")
    assert rate == 16_000
    assert np.array_equal(read, sound)
    assert np.array_equal(decode_wav(member), sound)
    assert member[44:] == sound.tobytes()


@given(st.binary(max_size=400), st.integers(0, 127), st.integers(0, 255))
def test_damaged_members_are_never_decoded_to_other_values(junk: bytes, place: int, value: int) -> None:
    for decode in (decode_faces, decode_wav):
        with pytest.raises(ValueError, match="not a"):
            decode(junk)
    whole = encode_faces(np.zeros((2, 3, 3, 3), np.uint8))
    broken = whole[:place] + bytes([value]) + whole[place + 1 :]
    if broken != whole:
        with pytest.raises(ValueError, match=r"not a|says shape"):
            decode_faces(broken)


def test_views_do_not_copy() -> None:
    member = encode_faces(np.full((1, 2, 2, 3), 7, np.uint8))
    buffer = bytearray(member)
    view = decode_faces(memoryview(buffer))
    buffer[128] = 99
    assert view[0, 0, 0, 0] == 99


@given(st.lists(st.integers(1, 50)), st.integers(10, 100))
def test_shard_boundaries_follow_from_order_and_sizes(sizes: list[int], limit: int) -> None:
    named = [(str(index), size) for index, size in enumerate(sizes)]
    cut = list(split_into_shards(named, limit))
    assert [key for shard in cut for key in shard] == [key for key, _ in named]
    for index, shard in enumerate(cut):
        total = sum(sizes[int(key)] for key in shard)
        assert total <= limit or len(shard) == 1
        if index + 1 < len(cut):
            assert total + sizes[int(cut[index + 1][0])] > limit


def test_the_writers_umask_and_clock_do_not_matter() -> None:
    before, _ = written({"a": {"txt": b"x"}})
    mask = os.umask(0o077)
    try:
        assert written({"a": {"txt": b"x"}})[0] == before
    finally:
        os.umask(mask)
