"""A model's name for the cache: every tensor counts, and so does what decides the meaning of its state."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ds4_backend
from ds4_backend.cache.fingerprint import WeightFile, fingerprint, weight_files
from ds4_backend.gguf.reader import open_gguf

FLIPPED = bytes(byte ^ 0x55 for byte in range(256))
TINY = Path(ds4_backend.__file__).parent / "assets" / "ds4-tiny.gguf"


def name_of(path: Path, **changes) -> bytes:
    options = {"dialect": "0731", "cache_simulation": True, "layout": "1"} | changes
    with open_gguf(path) as gguf:
        return fingerprint(weight_files(gguf), **options)


def test_the_same_file_elsewhere_has_the_same_name(tmp_path):
    copy = tmp_path / "other-name.gguf"
    shutil.copy(TINY, copy)
    assert name_of(copy) == name_of(TINY)


@pytest.mark.slow
def test_each_tensor_swapped_in_turn_changes_the_name(tmp_path):
    copy = tmp_path / "model.gguf"
    shutil.copy(TINY, copy)
    with open_gguf(copy) as gguf:
        (file,) = weight_files(gguf)
    names = {name_of(TINY)}
    with copy.open("r+b") as opened:
        for offset, nbytes in file.tensors:
            opened.seek(offset)
            data = opened.read(nbytes)
            opened.seek(offset)
            opened.write(data.translate(FLIPPED))
            opened.flush()
            names.add(fingerprint([file], dialect="0731", cache_simulation=True, layout="1"))
            opened.seek(offset)
            opened.write(data)
    assert len(names) == len(file.tensors) + 1


@pytest.mark.parametrize("change", [{"dialect": "preview"}, {"cache_simulation": False}, {"layout": "2"}])
def test_what_decides_the_meaning_of_state_changes_the_name(change):
    assert name_of(TINY, **change) != name_of(TINY)


def test_header_size_and_every_sample_count(tmp_path):
    path = tmp_path / "weights"
    clean = bytes(100_000)
    file = WeightFile(path, 1_000, ((1_000, 60_000), (61_000, 39_000)))

    def name(data: bytes) -> bytes:
        path.write_bytes(data)
        return fingerprint([file], dialect="", cache_simulation=False, layout="")

    def changed(at: int) -> bytes:
        return clean[:at] + b"\x01" + clean[at + 1 :]

    places = [0, 999, 1_000, 30_999, 31_000, 60_999, 61_000, 80_500, 99_999]
    assert len({name(clean), name(clean + b"\0"), *(name(changed(at)) for at in places)}) == len(places) + 2


def test_a_file_shorter_than_its_header_says_is_refused(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(bytes(500))
    with pytest.raises(OSError, match="ends at byte 500"):
        fingerprint([WeightFile(path, 100, ((400, 200),))], dialect="", cache_simulation=False, layout="")
