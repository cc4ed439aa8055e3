"""Who says how a file was trained, in which order."""

from __future__ import annotations

import logging
from pathlib import Path

import gguf
import numpy as np
import pytest

from ds4_backend.catalog.builds import FLASH
from ds4_backend.catalog.profile import profile_of, remember_header
from ds4_backend.errors import FileError
from ds4_backend.gguf.inspect import header_digest
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.settings import Registered, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "models", tmp_path / "cache", tmp_path / "state", config_file=tmp_path / "config.toml")


def write(path: Path, dialect: str | None = None, simulation: object = None) -> Path:
    writer = gguf.GGUFWriter(path, "deepseek4")
    if dialect is not None:
        writer.add_string("ds4.dialect", dialect)
    if isinstance(simulation, bool):
        writer.add_bool("ds4.cache_simulation", simulation)
    elif simulation is not None:
        writer.add_uint32("ds4.cache_simulation", simulation)
    writer.add_tensor("x", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def profile(path: Path, settings: Settings):
    with open_gguf(path) as file:
        return profile_of(file, settings)


def test_the_files_own_keys_win(tmp_path, settings):
    path = write(tmp_path / "a.gguf", "0731", False)
    own = Settings(tmp_path, tmp_path, tmp_path, models=(Registered("a", path, dialect="preview"),))
    found = profile(path, own)
    assert (found.dialect, found.cache_simulation) == ("0731", False)
    assert found.source == "the file's own metadata"


def test_the_config_file_speaks_for_a_file_that_is_silent(tmp_path, settings):
    path = write(tmp_path / "a.gguf")
    own = Settings(tmp_path, tmp_path, tmp_path, models=(Registered("mine", path, dialect="0731"),))
    found = profile(path, own)
    assert (found.dialect, found.cache_simulation) == ("0731", True)
    assert "models.mine" in found.source


def test_each_answer_comes_from_the_first_who_knows_it(tmp_path):
    path = write(tmp_path / "a.gguf", simulation=False)
    own = Settings(tmp_path, tmp_path, tmp_path, models=(Registered("mine", path, dialect="0731"),))
    found = profile(path, own)
    assert (found.dialect, found.cache_simulation) == ("0731", False)
    assert "models.mine" in found.source and "metadata" in found.source


def test_a_header_that_a_download_left_is_known_under_any_name(tmp_path, settings):
    path = write(tmp_path / "renamed.gguf")
    build = next(build for build in FLASH if build.name == "q2")
    with open_gguf(path) as file:
        remember_header(header_digest(file), build, settings)
    found = profile(path, settings)
    assert found.dialect == "0731" and "q2" in found.source
    other = write(tmp_path / "other.gguf", simulation=True)
    assert profile(other, settings).dialect == "preview"


def test_a_published_file_is_known_by_name_and_size(tmp_path, settings, monkeypatch):
    build = next(build for build in FLASH if build.name == "q2")
    path = write(tmp_path / build.file)
    assert profile(path, settings).source == "assumed"
    same = build.__class__("q2", build.file, path.stat().st_size, None, "0731", "")
    monkeypatch.setattr("ds4_backend.catalog.profile.FLASH", (same,))
    assert profile(path, settings).source == "name and size of the published build q2"


def test_where_nothing_is_known_preview_is_assumed_with_a_warning(tmp_path, settings, caplog):
    path = write(tmp_path / "a.gguf")
    with caplog.at_level(logging.WARNING):
        found = profile(path, settings)
    assert (found.dialect, found.cache_simulation, found.source) == ("preview", True, "assumed")
    assert "a.gguf does not say which prompt dialect it was trained with and whether with a rounded" in caplog.text
    assert "`preview` and a rounded cache (simulation on) assumed" in caplog.text


def test_a_file_that_leaves_one_answer_open_is_warned_of_that_one(tmp_path, settings, caplog):
    profile(write(tmp_path / "a.gguf", "0731"), settings)
    assert "does not say whether with a rounded cache; a rounded cache (simulation on) assumed" in caplog.text
    assert "preview" not in caplog.text


def test_a_file_that_says_it_all_raises_no_warning(tmp_path, settings, caplog):
    profile(write(tmp_path / "a.gguf", "preview", True), settings)
    assert caplog.text == ""


def test_an_unknown_dialect_in_the_file_is_an_error(tmp_path, settings):
    with pytest.raises(FileError, match="'0901'"):
        profile(write(tmp_path / "a.gguf", "0901"), settings)


def test_a_simulation_key_that_is_no_bool_is_an_error(tmp_path, settings):
    with pytest.raises(FileError, match=r"ds4\.cache_simulation is 1"):
        profile(write(tmp_path / "a.gguf", "preview", 1), settings)


def test_a_spoilt_state_file_is_passed_over_with_a_warning(tmp_path, settings, caplog):
    settings.state_dir.mkdir()
    (settings.state_dir / "headers.json").write_text("{")
    assert profile(write(tmp_path / "a.gguf", "0731", True), settings).dialect == "0731"
    assert "headers.json cannot be read" in caplog.text
