"""`models` and `download`."""

from __future__ import annotations

import json

from ds4_backend.catalog.builds import FLASH
from ds4_backend.catalog.hub import HuggingFaceHub
from ds4_backend.errors import DownloadError
from ds4_backend.machine import GIB, Machine

SMALL = Machine("Linux", "x86_64", 4 * GIB, 4 * GIB, (2, 36))
BIG = Machine("Linux", "x86_64", 900 * GIB, 800 * GIB, (2, 36))


def on(monkeypatch, machine: Machine, free: int = 2000 * GIB) -> None:
    for module in ("fitting", "download"):
        monkeypatch.setattr(f"ds4_backend.catalog.{module}.this_machine", lambda: machine)
        monkeypatch.setattr(f"ds4_backend.catalog.{module}.free_disk", lambda folder: free)


def test_models_lists_names_and_what_fits(run, monkeypatch):
    on(monkeypatch, BIG)
    output = run("models").output
    assert "ds4-tiny" in output and "ds4-flash, ds4" in output
    assert "ds4-backend download mxfp4" in output


def test_models_as_json_can_be_read(run):
    entries = json.loads(run("models", "--json").output)
    assert [entry["name"] for entry in entries] == ["ds4-tiny", "ds4-flash"]
    assert entries[1]["path"] is None


def test_download_without_a_build_takes_the_best_that_fits(run, monkeypatch):
    on(monkeypatch, BIG)
    asked = []

    def describe(self, repository, file):
        asked.append((repository, file))
        raise DownloadError("there is no network")

    monkeypatch.setattr(HuggingFaceHub, "describe", describe)
    result = run("download")
    assert result.exit_code == 1
    assert "Error: there is no network" in result.output
    assert asked == [(FLASH[0].repository, FLASH[0].file)]


def test_download_where_nothing_fits_says_so_with_numbers(run, monkeypatch):
    on(monkeypatch, SMALL)
    result = run("download")
    assert result.exit_code == 1
    assert "4.0 GiB of memory" in result.output and "None fits" in result.output


def test_a_named_build_that_does_not_fit_is_refused(run, monkeypatch):
    on(monkeypatch, SMALL)
    result = run("download", "q4")
    assert result.exit_code == 1
    assert "does not fit" in result.output and "--force" in result.output


def test_an_unknown_build_gets_the_names(run):
    result = run("download", "q3")
    assert result.exit_code == 1
    assert "There is no build 'q3'" in result.output and "mxfp4, q4, q2-q4, q2" in result.output
