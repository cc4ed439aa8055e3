"""`verify`: a file against its published digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from ds4_backend.catalog import builds


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file that the catalogue knows."""
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights" * 1000)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    build = replace(builds.FLASH[0], file=path.name, nbytes=7000, sha256=digest)
    monkeypatch.setattr(builds, "FLASH", (build,))
    return path


def test_a_published_file_is_as_published(published, run):
    result = run("verify", published)
    assert result.exit_code == 0 and "As published." in result.output


def test_one_flipped_bit_is_found(published, run):
    data = bytearray(published.read_bytes())
    data[3500] ^= 1
    published.write_bytes(data)
    result = run("verify", published, "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["same"] is False and said["sha256"] != said["wanted"]
    assert "ds4-backend download" in run("verify", published).output


def test_an_unknown_file_gets_its_digest_and_no_verdict(tmp_path, run):
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"x")
    result = run("verify", path)
    assert result.exit_code == 0 and hashlib.sha256(b"x").hexdigest() in result.output
    assert "--sha256" in result.output
    assert run("verify", path, "--sha256", "00" * 32).exit_code == 1


def test_an_installed_model_goes_by_its_name(run):
    assert "ds4-tiny.gguf" in run("verify", "ds4-tiny").output
