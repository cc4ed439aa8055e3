"""Settings: what wins over what, and what a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds4_backend.errors import SettingsError
from ds4_backend.settings import KEYS, Settings, load, wants_traceback


def config(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return {"DS4_BACKEND_CONFIG": str(file)}


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ)
    return str(caught.value)


def test_without_a_file_every_folder_has_an_absolute_default(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings = load({})
    folders = [settings.models_dir, settings.cache_dir, settings.state_dir]
    assert all(folder.is_absolute() for folder in folders)
    assert len(set(folders)) == 3
    assert settings.models == ()


def test_the_file_wins_over_the_defaults_and_the_environment_over_the_file(tmp_path):
    environ = config(tmp_path, 'models_dir = "/from/file"\ncache_dir = "/cache/file"\n')
    settings = load(environ | {"DS4_BACKEND_MODELS_DIR": "/from/environment"})
    assert settings.models_dir == Path("/from/environment")
    assert settings.cache_dir == Path("/cache/file")


def test_a_tilde_stands_for_the_home_folder(tmp_path):
    settings = load(config(tmp_path, 'models_dir = "~/models"\n'))
    assert settings.models_dir == Path.home() / "models"


def test_every_plain_key_is_a_field_of_settings():
    assert {key.name for key in KEYS} <= set(Settings.__slots__)


@pytest.mark.parametrize("value", ["models", "", " "])
def test_a_relative_folder_is_refused_with_key_value_and_rule(value):
    message = refusal({"DS4_BACKEND_MODELS_DIR": value})
    assert "DS4_BACKEND_MODELS_DIR" in message and repr(value) in message and "absolute path" in message


def test_a_misspelt_key_in_the_file_is_named_with_the_nearest_one(tmp_path):
    environ = config(tmp_path, 'model_dir = "/x"\n')
    message = refusal(environ)
    assert environ["DS4_BACKEND_CONFIG"] in message
    assert "'model_dir'" in message and "'models_dir'" in message


def test_a_misspelt_variable_is_named_with_the_nearest_one():
    message = refusal({"DS4_BACKEND_MODEL_DIR": "/x"})
    assert "'DS4_BACKEND_MODEL_DIR'" in message and "'DS4_BACKEND_MODELS_DIR'" in message


def test_an_unknown_ops_lists_the_known_ones():
    message = refusal({"DS4_BACKEND_OPS": "cuda9"})
    assert "'cuda9'" in message and "auto, numpy, mlx" in message


def test_a_file_that_is_not_toml_is_named(tmp_path):
    assert "is not TOML" in refusal(config(tmp_path, "models_dir = = 3"))


def test_a_named_config_file_must_exist(tmp_path):
    assert "no such file" in refusal({"DS4_BACKEND_CONFIG": str(tmp_path / "absent.toml")})


def test_a_registered_model_has_path_context_aliases_and_dialect(tmp_path):
    text = '[models.mine]\npath = "/m.gguf"\ncontext = 4096\naliases = ["m"]\ndialect = "0731"\n'
    (model,) = load(config(tmp_path, text)).models
    assert (model.name, model.path, model.context, model.aliases) == ("mine", Path("/m.gguf"), 4096, ("m",))
    assert model.dialect == "0731"
    assert model.cache_simulation is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("context = 0", "models.mine.context is 0; allowed: a number of tokens"),
        ("context = true", "models.mine.context is True"),
        ('aliases = "m"', "models.mine.aliases is 'm'; allowed: a list of names"),
        ('dialect = "0732"', "allowed: one of preview, 0731"),
        ("cache_simulation = 1", "allowed: true or false"),
        ('pathh = "/x"', "Did you mean 'models.mine.path'?"),
    ],
)
def test_a_bad_value_of_a_registered_model_is_told(tmp_path, line, told):
    assert told in refusal(config(tmp_path, f'[models.mine]\npath = "/m.gguf"\n{line}\n'))


def test_a_registered_model_without_a_path_is_refused(tmp_path):
    assert "models.mine has no `path`" in refusal(config(tmp_path, "[models.mine]\ncontext = 1\n"))


def test_models_must_be_tables(tmp_path):
    assert "[models.NAME]" in refusal(config(tmp_path, "models = 3\n"))
    assert "models.mine is 3" in refusal(config(tmp_path, "[models]\nmine = 3\n"))


def test_two_models_cannot_share_a_name(tmp_path):
    text = '[models.a]\npath = "/a.gguf"\naliases = ["b"]\n[models.b]\npath = "/b.gguf"\n'
    assert "both claim 'b'" in refusal(config(tmp_path, text))


def test_tracebacks_are_asked_for_by_variable():
    assert wants_traceback({"DS4_BACKEND_TRACEBACK": "1"})
    assert not wants_traceback({"DS4_BACKEND_TRACEBACK": "0"})
    assert not wants_traceback({})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("1d", 86400), ("-1", -1), ("0", 0)]
)
def test_a_time_is_a_number_of_seconds_or_has_a_unit(text, seconds):
    assert load({"DS4_BACKEND_KEEP_ALIVE": text}).keep_alive == seconds


@pytest.mark.parametrize("text", ["soon", "5 weeks", "", "1e3", "m"])
def test_any_other_time_is_refused(text):
    assert "allowed: seconds, or a time such as 90s" in refusal({"DS4_BACKEND_KEEP_ALIVE": text})


@pytest.mark.parametrize("value", ["auto", "off", "unix:///run/ds4/socket", "http://127.0.0.1:11500"])
def test_models_run_in_the_host_here_or_at_an_address(value):
    assert load({"DS4_BACKEND_HOST": value}).host == value


@pytest.mark.parametrize("value", ["on", "127.0.0.1:11500", "unix://", "http://", "ftp://x"])
def test_a_host_that_is_none_of_these_is_refused(value):
    assert "allowed: auto, off, or an address" in refusal({"DS4_BACKEND_HOST": value})


def test_a_token_is_kept_out_of_sight():
    settings = load({"DS4_BACKEND_TOKEN": "hunter2"})
    assert settings.token == "hunter2"
    assert "hunter2" not in repr(settings)
    message = refusal({"DS4_BACKEND_TOKEN": "two words"})
    assert "visible ASCII" in message and "two words" not in message
