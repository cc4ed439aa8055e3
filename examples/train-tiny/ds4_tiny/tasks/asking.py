# ruff: noqa: E501  (a template is one line, however long)
"""Many ways to ask for the same thing: openers, politeness, and requests built from a verb or a noun.

A request is written once, with a mark: `!read {0}` is something to do, `?the weather in {0}` something to know,
`%install it` something to learn how to do; anything else is said as it stands.
"""

from __future__ import annotations

from ds4_tiny.draw import Draw

OPENERS = ("Hi! ", "Hello. ", "Hey, ", "Hi there, ", "Good morning. ", "Hello! ", "OK. ", "Now, ", "Quick question: ",
           "Hey! ", "Good evening! ", "I have a question. ", "Sorry to bother you. ", "Right, ", "So, ", "One more thing: ",
           "Next, ", "hi, ", "Thanks. ", "Great. ", "Dear assistant, ")  # fmt: skip
CLOSERS = (" Thanks!", " Thank you.", " Please.", " Thanks in advance.", " Thank you very much!", " It is urgent.", " Cheers!")
DO = ("{D}.", "{D}.", "{D}", "{d}", "Please {d}.", "Please {d}", "{D}, please.", "Could you {d}?", "Can you {d}?",
      "Could you please {d}?", "Can you please {d}?", "Would you {d}?", "I want you to {d}.", "I need you to {d}.", "I'd like you to {d}.",
      "Go ahead and {d}.", "You should {d}.", "Let's {d}.", "I would like to {d}.", "I want to {d}.", "Help me {d}.", "{D}!", "Kindly {d}.",
      "We need to {d}.", "Your task: {d}.", "please {d}", "{d} please", "I need to {d}.", "Would you please {d}?", "Just {d}.",
      "Be so kind and {d}.", "Your job is to {d}.", "Will you {d}?", "I was wondering if you could {d}.")  # fmt: skip
KNOW = ("What is {k}?", "What's {k}?", "what is {k}", "what's {k}", "Tell me {k}.", "Give me {k}.", "{K}?", "{k}", "{K}, please.", "Do you know {k}?",
        "Can you tell me {k}?", "Could you tell me {k}?", "I'd like to know {k}.", "Show me {k}.", "Find out {k}.", "I need {k}.",
        "Please tell me {k}.", "Please give me {k}.", "Look up {k}.", "I want to know {k}.", "Get me {k}.", "Check {k}.", "{K}!",
        "I need to know {k}.", "Could you look up {k}?", "Can you check {k} for me?", "I need {k} please", "What is {k} right now?", "{k} please")  # fmt: skip

HOW = ("How do I {d}?", "How do I {d}?", "How can I {d}?", "how do i {d}", "How to {d}?", "How would one {d}?", "How do you {d}?", "Which command do I need to {d}?", "Tell me how to {d}.",
       "Is there a command to {d}?", "I need to {d}. What do I do?", "What must I do to {d}?", "?the way to {d}", "Can you explain how to {d}?", "Please tell me how I can {d}.", "How might I {d}?",
       "What do I type to {d}?", "Is it possible to {d}?", "{d}: how?", "Show me how to {d}.", "What is the command to {d}?", "Do you know how to {d}?", "How does one {d}?")  # fmt: skip


def ask(d: Draw, request: str, *, bare: bool = False) -> str:
    """One way to say a marked request. `bare` leaves out openers and closers."""
    text = phrase(d, request)
    if bare or d.chance(0.7):
        return text
    if d.chance(0.6):
        opener = d.one(OPENERS)
        return opener + (lower(text) if opener.endswith(", ") and text.split()[0] in STARTS else text)
    return text + (d.one(CLOSERS) if text[-1] in ".?!" else "." + d.one(CLOSERS))


STARTS = ("What", "What's", "Tell", "Give", "Please", "Could", "Can", "Would", "Show", "How", "Do", "Is", "Where", "When", "Which", "Who", "Look")
"""First words that lose their capital after a comma."""


AS_IT_IS = "\0"
"""Stands before a value at the head of a request, which must not get a large letter."""


def phrase(d: Draw, request: str) -> str:
    """The marked request without anything before or after it."""
    return _phrase(d, request).replace(AS_IT_IS, "")


def _phrase(d: Draw, request: str) -> str:
    mark, body = request[0], request[1:]
    if mark == "!":
        return d.one(DO).format(d=body, D=upper(body))
    if mark == "?":
        return d.one(KNOW).format(k=body, K=upper(body))
    if mark == "%":
        how = d.one(HOW).format(d=body)
        return _phrase(d, how) if how[0] == "?" else how
    return request


def either(d: Draw, alternatives: str) -> str:
    """Ask one of `a|b|c`."""
    return ask(d, d.split_one(alternatives))


def upper(text: str) -> str:
    """The first letter large."""
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    """The first letter small."""
    return text[:1].lower() + text[1:]


def joined(parts: list[str], word: str = "and") -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"
