"""Names of state: the same everywhere, different for everything that matters."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest
from synthetic import MODEL, some_ids

from ds4_backend.cache.keys import Chain, PrefixHash, call_key, pack_ids, tail_key, unpack_ids, visible_key

ROOT = Path(__file__).resolve().parents[2]


def test_a_chain_is_named_by_the_written_rule():
    ids = some_ids(300)
    root = blake2b(MODEL, digest_size=32, person=b"ds4kv root").digest()
    first = blake2b(root + struct.pack("<128I", *ids[:128]), digest_size=32, person=b"ds4kv block").digest()
    second = blake2b(first + struct.pack("<128I", *ids[128:256]), digest_size=32, person=b"ds4kv block").digest()
    chain = Chain(MODEL, ids)
    assert chain.keys == [root, first, second]
    assert chain.tail(300) == (second, struct.pack("<44I", *ids[256:]))
    assert chain.tail(256) == (second, b"")
    assert chain.tail(130) == (first, struct.pack("<2I", *ids[128:130]))


def test_two_processes_with_different_hash_seeds_find_the_same_names():
    code = (
        "from ds4_backend.cache.keys import Chain, visible_key, call_key\n"
        "print([key.hex() for key in Chain(b'm' * 32, range(1000)).keys],"
        " visible_key('x', [('f', '{\"b\": 1, \"a\": 2}')]).hex(), call_key('call_1').hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_a_chain_grown_token_by_token_has_the_same_names():
    ids, chain = some_ids(400), Chain(MODEL)
    for one in ids:
        chain.extend([one])
    assert chain.keys == Chain(MODEL, ids).keys
    assert chain.length == 400


def test_every_token_and_the_model_change_the_names():
    ids = some_ids(256)
    names = {Chain(MODEL, ids).keys[2], Chain(b"n" * 32, ids).keys[2]}
    for at in range(256):
        changed = [*ids]
        changed[at] += 1
        names.add(Chain(MODEL, changed).keys[2])
    assert len(names) == 258


def test_a_tail_is_named_by_what_follows_the_last_block():
    chain, other = b"c" * 32, b"d" * 32
    assert len({tail_key(chain, b""), tail_key(chain, pack_ids([1])), tail_key(other, b"")}) == 3


def test_ids_that_are_no_u32_are_refused():
    with pytest.raises(struct.error):
        Chain(MODEL, [-1])
    assert unpack_ids(pack_ids([0, 4_294_967_295])) == (0, 4_294_967_295)


def test_a_visible_turn_has_one_name_however_its_arguments_are_spelt():
    one = visible_key("so", [("f", '{"a": 1, "b": [2]}')])
    assert one == visible_key("so", [("f", '{"b":[2],"a":1}')])
    assert one != visible_key("so", [("f", '{"a": 1, "b": [3]}')])
    assert visible_key("so", [("f", "no json")]) != visible_key("so", [("f", "nojson")])
    assert visible_key("ab") != visible_key("a", [("b", "{}")])
    assert visible_key("\ud800") != visible_key("\ud801")
    assert call_key("a\ud800") != call_key("a")


def test_a_prefix_grows_without_hashing_again():
    grown = PrefixHash([1, 2])
    middle = grown.key()
    grown.extend([3])
    assert (middle, grown.key()) == (PrefixHash([1, 2]).key(), PrefixHash([1, 2, 3]).key())
