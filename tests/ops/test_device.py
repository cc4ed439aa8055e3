"""What fits a device's memory, and what is said where it does not."""

from __future__ import annotations

import pytest

from ds4_backend.errors import DoesNotFit
from ds4_backend.ops.device import GIB, Device, check_room, give_back, host_memory, mlx_device, wired_limit_command

FLASH_Q2 = 86_714_775_900


def test_a_mac_below_its_limit_is_told_the_command_that_raises_it():
    mac = Device("metal", "Apple M3 Max", 96 * GIB, 72 * GIB)
    numbers = r"82\.8 GiB .* 72\.0 GiB of this Mac's 96\.0 GiB"
    with pytest.raises(DoesNotFit, match=rf"{numbers}.*iogpu\.wired_limit_mb=84746$"):
        check_room(FLASH_Q2, mac)
    check_room(FLASH_Q2, Device("metal", "Apple M3 Max", 96 * GIB, 84 * GIB))


def test_a_mac_that_is_too_small_is_not_told_to_raise_its_limit():
    with pytest.raises(DoesNotFit, match="smaller build") as caught:
        check_room(FLASH_Q2, Device("metal", "Apple M4", 64 * GIB, 48 * GIB))
    assert "sysctl" not in str(caught.value)


def test_a_card_that_someone_else_uses_is_refused_with_the_numbers():
    card = Device("cuda", "H200", 139 * GIB, 132 * GIB, free=40 * GIB)
    with pytest.raises(DoesNotFit, match=r"H200 has 139\.0 GiB, of which 99\.0 GiB are in use now"):
        check_room(FLASH_Q2, card)
    check_room(FLASH_Q2, Device("cuda", "H200", 139 * GIB, 132 * GIB, free=138 * GIB))


def test_a_small_model_is_never_refused():
    check_room(13 << 20, Device("metal", "any", GIB, GIB // 8))


def test_this_machine_has_a_device_with_memory():
    found = mlx_device()
    assert found.kind in {"metal", "cuda", "cpu"} and found.name
    assert 0 < found.limit <= found.total
    assert host_memory() > GIB // 4
    give_back()


def test_the_command_rounds_up_to_whole_mebibytes():
    assert wired_limit_command((90 << 30) + 1) == "sudo sysctl iogpu.wired_limit_mb=92161"
