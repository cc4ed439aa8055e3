"""What this machine can hold."""

from __future__ import annotations

import dataclasses

import pytest

from ds4_backend.errors import EngineError
from ds4_backend.machine import GIB, Machine, check_platform, fits, free_disk, gib, this_machine

MAC = Machine("Darwin", "arm64", 96 * GIB, 80 * GIB, (15, 1))
LINUX = Machine("Linux", "x86_64", 24 * GIB, 20 * GIB, (2, 36))
Q2 = 86_720_111_488


def test_this_machine_has_memory_and_a_platform():
    machine = this_machine()
    assert 0 < machine.memory_available <= machine.memory_total
    assert machine.system and machine.arch


def test_the_published_two_bit_build_fits_96_gib():
    assert fits(Q2, MAC, free=100 * GIB).fits


def test_too_little_memory_is_told_with_both_numbers():
    verdict = fits(Q2, LINUX, free=500 * GIB)
    assert verdict.reasons == ("needs 90.8 GiB of memory, this machine has 24.0 GiB",)


def test_too_little_disk_is_told_with_both_numbers():
    verdict = fits(Q2, MAC, free=50 * GIB)
    assert verdict.reasons == ("needs 82.8 GiB of free disk, there is 50.0 GiB",)


def test_bytes_already_written_need_no_room_again():
    assert fits(Q2, MAC, free=50 * GIB, already_there=40 * GIB).fits
    assert fits(Q2, MAC, free=0, already_there=Q2).fits


def test_free_disk_of_a_folder_that_does_not_exist_is_its_parents(tmp_path):
    absent = tmp_path / "a" / "b"
    assert free_disk(absent) > 0
    assert not absent.exists()


@pytest.mark.parametrize("machine", [MAC, LINUX, dataclasses.replace(LINUX, arch="aarch64")])
def test_the_supported_platforms_pass(machine):
    check_platform(machine)


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (Machine("Windows", "amd64", GIB, GIB), "This is Windows. Under WSL 2"),
        (dataclasses.replace(MAC, arch="x86_64"), "Intel"),
        (dataclasses.replace(MAC, release=(13, 6)), "macOS 13.6"),
        (dataclasses.replace(LINUX, release=(2, 31)), "glibc 2.31"),
        (dataclasses.replace(LINUX, release=()), "no glibc"),
        (dataclasses.replace(LINUX, arch="riscv64"), "Linux on riscv64"),
        (dataclasses.replace(LINUX, system="FreeBSD"), "FreeBSD"),
    ],
)
def test_other_platforms_are_refused_by_name(machine, told):
    with pytest.raises(EngineError) as caught:
        check_platform(machine)
    assert told in str(caught.value)
    assert "macOS 14 or newer with Apple silicon" in str(caught.value)


def test_sizes_are_written_in_gib_and_small_ones_in_mib():
    assert gib(Q2) == "80.8 GiB"
    assert gib(12 << 20) == "12.0 MiB"
