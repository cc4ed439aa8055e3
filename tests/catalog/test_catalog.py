"""Names of models, and the files behind them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ds4_backend import catalog
from ds4_backend.catalog import fitting
from ds4_backend.catalog.builds import FLASH, NEWEST
from ds4_backend.catalog.vocabulary import tokenizer_of
from ds4_backend.errors import NotInstalled, UnknownModel
from ds4_backend.machine import GIB, Machine
from ds4_backend.settings import Registered, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "models", tmp_path / "cache", tmp_path / "state", config_file=tmp_path / "config.toml")


def machine(memory_gib: int) -> Machine:
    return Machine("Darwin", "arm64", memory_gib * GIB, memory_gib * GIB, (15, 0))


def install(name: str, settings: Settings, nbytes: int | None = None) -> Path:
    build = catalog.find_build(name)
    settings.models_dir.mkdir(exist_ok=True)
    path = catalog.build_path(build, settings)
    with path.open("wb") as file:
        file.truncate(build.nbytes if nbytes is None else nbytes)  # sparse: takes no disk
    return path


def register(settings: Settings, *models: Registered) -> Settings:
    return replace(settings, models=models)


def test_every_build_has_its_own_name_file_size_and_digest():
    assert len({build.name for build in FLASH}) == len({build.file for build in FLASH}) == len(FLASH)
    assert all(re.fullmatch("[0-9a-f]{64}", build.sha256 or "") for build in FLASH)
    assert len({build.sha256 for build in FLASH}) == len(FLASH)
    assert all(build.file.endswith("-0731.gguf") == (build.dialect == "0731") for build in FLASH)


def test_without_weights_flash_is_not_installed_and_the_message_says_what_to_do(settings, monkeypatch):
    monkeypatch.setattr(fitting, "this_machine", lambda: machine(128))
    monkeypatch.setattr(fitting, "free_disk", lambda folder: 500 * GIB)
    with pytest.raises(NotInstalled) as caught:
        catalog.resolve("ds4-flash", settings)
    message = str(caught.value)
    assert "128.0 GiB of memory" in message and "500.0 GiB of free disk" in message
    assert "ds4-backend download q2-q4" in message


def test_where_nothing_fits_the_message_says_so_and_offers_the_tiny_model(settings, monkeypatch):
    monkeypatch.setattr(fitting, "this_machine", lambda: machine(24))
    with pytest.raises(NotInstalled) as caught:
        catalog.resolve("ds4", settings)
    assert "None fits" in str(caught.value)
    assert "ds4-backend download q2 --force" in str(caught.value)
    assert "llm -m ds4-tiny" in str(caught.value)


@pytest.mark.parametrize(("memory", "best"), [(64, None), (96, "q2"), (128, "q2-q4"), (192, "mxfp4"), (512, "mxfp4")])
def test_the_recommended_build_grows_with_memory(settings, monkeypatch, memory, best):
    monkeypatch.setattr(fitting, "free_disk", lambda folder: 1000 * GIB)
    build = fitting.recommended(settings, machine(memory))
    assert (build.name if build else None) == best


def test_a_full_disk_recommends_nothing(settings, monkeypatch):
    monkeypatch.setattr(fitting, "free_disk", lambda folder: GIB)
    assert fitting.recommended(settings, machine(512)) is None


def test_the_best_installed_build_answers_to_flash(settings):
    install("q2-preview", settings)
    assert catalog.resolve("ds4", settings).name == catalog.find_build("q2-preview").file
    q2 = install("q2", settings)
    assert catalog.resolve("ds4-flash", settings) == q2


def test_one_build_can_be_asked_for(settings):
    preview = install("q2-preview", settings)
    install("q2", settings)
    assert catalog.resolve("ds4-flash:q2-preview", settings) == preview
    with pytest.raises(NotInstalled, match="ds4-flash:q4 is not installed"):
        catalog.resolve("ds4-flash:q4", settings)
    with pytest.raises(UnknownModel, match="Did you mean q2"):
        catalog.resolve("ds4-flash:q22", settings)


def test_half_a_file_is_not_installed(settings):
    install("q2", settings, nbytes=1000)
    with pytest.raises(NotInstalled):
        catalog.resolve("ds4-flash", settings)


def test_an_unknown_name_gets_the_near_ones(settings):
    with pytest.raises(UnknownModel) as caught:
        catalog.resolve("ds4-tiney", settings)
    assert "Did you mean ds4-tiny" in str(caught.value)
    assert "ds4-flash" in str(caught.value)


def test_a_path_is_a_model(settings, tmp_path):
    file = tmp_path / "own.gguf"
    file.touch()
    assert catalog.resolve(str(file), settings) == file
    with pytest.raises(UnknownModel, match=r"no file .*absent\.gguf"):
        catalog.resolve(str(tmp_path / "absent.gguf"), settings)


def test_a_registered_model_is_found_by_name_and_alias(settings, tmp_path):
    file = tmp_path / "mine.gguf"
    file.touch()
    own = register(settings, Registered("mine", file, aliases=("m",)))
    assert catalog.resolve("mine", own) == catalog.resolve("m", own) == file


def test_a_registered_model_whose_file_is_gone_names_the_config_file(settings, tmp_path):
    own = register(settings, Registered("mine", tmp_path / "gone.gguf"))
    with pytest.raises(NotInstalled) as caught:
        catalog.resolve("mine", own)
    assert str(settings.config_file) in str(caught.value) and "gone.gguf" in str(caught.value)


def test_the_user_may_take_a_known_name(settings, tmp_path):
    file = tmp_path / "mine.gguf"
    file.touch()
    own = register(settings, Registered("ds4-flash", file), Registered("other", file, aliases=("ds4",)))
    assert catalog.resolve("ds4-flash", own) == file
    entries = catalog.models(own)
    assert [entry.name for entry in entries] == ["ds4-flash", "other", "ds4-tiny"]


def test_the_list_shows_what_is_installed(settings):
    flash = {entry.name: entry for entry in catalog.models(settings)}["ds4-flash"]
    assert flash.path is None and flash.aliases == ("ds4",)
    path = install("q2", settings)
    flash = {entry.name: entry for entry in catalog.models(settings)}["ds4-flash"]
    assert flash.path == path and "q2" in flash.about


def test_the_newest_builds_come_first():
    dialects = [build.dialect for build in FLASH]
    assert dialects == sorted(dialects, key=lambda dialect: dialect != NEWEST)


def test_a_config_file_that_cannot_be_read_is_complained_of_and_our_own_names_remain(monkeypatch, tmp_path):
    monkeypatch.setenv("DS4_BACKEND_CONFIG", str(tmp_path / "nowhere.toml"))
    complaints = []
    entries = catalog.listed(complaints.append)
    assert [(entry.names, entry.longest) for entry in entries] == [
        (("ds4-tiny",), 1 << 15),
        (("ds4-flash", "ds4"), catalog.CONTEXT),
    ]
    (complaint,) = complaints
    assert complaint.startswith("ds4-backend: ") and "nowhere.toml" in complaint


def test_the_vocabulary_of_a_model_is_read_without_the_model():
    tokenizer = tokenizer_of("ds4-tiny")
    assert tokenizer.decode(tokenizer.encode("What is 3 times 12?")) == "What is 3 times 12?"
    assert tokenizer_of("ds4-tiny") is tokenizer
