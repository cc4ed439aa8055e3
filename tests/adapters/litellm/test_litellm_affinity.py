"""Which host a conversation goes to, where several serve one model."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # importing litellm takes ten seconds

HOSTS = [{"litellm_params": {"model": "ds4/flash", "api_base": f"http://127.0.0.1:{port}"}} for port in range(1, 5)]
BILLING = "x-anthropic-billing-header: cc_version=2.1; cch="


def opening(text: str) -> list[Any]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def chosen(litellm: ModuleType, messages: Any, hosts: list[Any] = HOSTS, **request: Any) -> list[Any]:
    from litellm_ds4 import affinity

    return asyncio.run(affinity.async_filter_deployments("ds4-flash", hosts, messages, request))


def test_a_conversation_keeps_its_host_as_it_grows(litellm: ModuleType) -> None:
    for number in range(20):
        turns = opening(f"question {number}")
        (first,) = chosen(litellm, turns)
        turns += [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
        assert chosen(litellm, turns) == [first]


def test_conversations_spread_over_the_hosts(litellm: ModuleType) -> None:
    counts = Counter(HOSTS.index(chosen(litellm, opening(f"question {n}"))[0]) for n in range(200))
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) < 100


def test_a_host_that_leaves_moves_its_own_conversations_only(litellm: ModuleType) -> None:
    for number in range(50):
        (before,) = chosen(litellm, opening(f"question {number}"))
        (after,) = chosen(litellm, opening(f"question {number}"), HOSTS[1:])
        assert after == before or before == HOSTS[0]


def test_the_form_of_the_endpoint_does_not_matter(litellm: ModuleType) -> None:
    user = {"role": "user", "content": [{"type": "text", "text": "go"}]}
    expected = chosen(litellm, opening("go"))
    assert chosen(litellm, [user], system="Be brief.") == expected
    assert chosen(litellm, [user], system=[{"type": "text", "text": "Be brief."}]) == expected
    assert chosen(litellm, None, input="go", instructions="Be brief.") == expected
    part = {"type": "input_text", "text": "go"}
    assert chosen(litellm, None, input=[{"role": "user", "content": [part]}], instructions="Be brief.") == expected


def test_a_billing_header_that_changes_does_not_move_an_agent(litellm: ModuleType) -> None:
    found = [chosen(litellm, [{"role": "user", "content": "go"}],
                    system=[{"type": "text", "text": f"{BILLING}{n};"}, {"type": "text", "text": "Be brief."}])
             for n in range(20)]  # fmt: skip
    assert all(one == found[0] for one in found)


def test_what_is_not_ours_or_has_one_host_is_left_alone(litellm: ModuleType) -> None:
    other = [*HOSTS, {"litellm_params": {"model": "openai/gpt-x"}}]
    assert chosen(litellm, opening("go"), other) == other
    assert chosen(litellm, opening("go"), HOSTS[:1]) == HOSTS[:1]
    assert chosen(litellm, [], HOSTS) == HOSTS
    assert chosen(litellm, None, HOSTS) == HOSTS


def test_a_router_of_the_sdk_takes_it_as_a_callback(litellm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from litellm_ds4 import affinity

    from ds4_backend.engine.scripted import ScriptedEngine, scripted
    from ds4_backend.types import End

    async def ask() -> None:
        entries = [{"model_name": "both", "litellm_params": {"model": f"ds4/router-{name}"}} for name in "ab"]
        router = litellm.Router(entries)
        for _ in range(10):
            await router.acompletion("both", opening("go"))

    def engine(name: str) -> Any:
        return scripted(f"router-{name}", *([[End("stop")]] * 10))

    monkeypatch.setattr(litellm, "callbacks", [affinity])
    with engine("a") as a, engine("b") as b:
        asyncio.run(ask())
    found: list[ScriptedEngine] = [a, b]
    assert sorted(len(one.requests) for one in found) == [0, 10]
