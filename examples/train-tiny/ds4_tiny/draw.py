# ruff: noqa: E501  (tables and prompt text)
"""Random values for every slot of the templates: words known and unknown, names, paths, numbers, Unicode.

Half of all words are ones that no list holds: letters at random, syllables, pieces of the vocabulary joined, foreign
scripts. One eighth of what can be drawn, chosen by a hash, is `held_out`: the training never sees it, the evaluation
sees nothing else.
"""

from __future__ import annotations

import functools
import json
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ds4_tiny import words as w

T = TypeVar("T")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
HEADS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "bl",
    "br",
    "cl",
    "cr",
    "dr",
    "fl",
    "gr",
    "pl",
    "qu",
    "sh",
    "sk",
    "sl",
    "st",
    "th",
    "tr",
]
VOWELS = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "ai", "ea", "ee", "oo", "ou", "y"]
TAILS = ["", "", "", "b", "ck", "l", "m", "n", "nd", "p", "r", "rk", "s", "st", "t", "x"]
ACCENTS = {"a": "áàâäãåą", "c": "çćč", "e": "éèêëęě", "i": "íìîï", "n": "ñńň", "o": "óòôöõøő", "s": "śšß", "u": "úùûüůű",
           "y": "ýÿ", "z": "źżž", "l": "ł", "d": "ďð", "t": "ťþ", "r": "řŕ"}  # fmt: skip
COMMON_HAN = """的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还
发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正
名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市司技术集团公司科技有限
北京上海广州深圳东京大阪株式会社電話学校会社日本語東京都新宿""".replace("\n", "")  # fmt: skip
KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
KATAKANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲンー"
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
HEBREW_ARABIC = "אבגדהוזחטיכלמנסעפצקרשתابتثجحخدذرزسشصضطظعغفقكلمنهوي"
EMOJI = "😀😂🙂😉😍😎🤔😢😡👍👎👏🙏💪🎉🎂🎁🔥✨⭐🌟🌈🌍🌱🌳🌸🌻🍎🍌🍕🍔🍰☕🍺🐶🐱🐭🐼🦊🐸🐢🐍🐳🦋🚗🚀✈🚲🏠🏔🏖📚📝📅📌🔒🔑💡💻📱🎵🎸⚽🏀🏆❤💙💚💜✅❌❓❗"


def held_out(text: str) -> bool:
    """Whether the training leaves this out, for the evaluation."""
    return zlib.crc32(text.encode()) % 8 == 0


@functools.cache
def pieces() -> tuple[str, ...]:
    """The vocabulary's own fragments of words, of any script that Python calls letters; none before it is trained."""
    path = Path(__file__).parent / "tokenizer.json"
    if not path.exists():
        return ()
    from ds4_tiny.vocabulary import letters_of

    vocab = json.loads(path.read_text("utf-8"))["model"]["vocab"]
    return tuple(sorted({text for token in vocab if (text := letters_of(token)) and text.isalpha()}))


class Draw:
    """A seeded source of values. `split` is train or eval: which side of `held_out` unknown words come from."""

    def __init__(self, seed: int | str, split: str = "train") -> None:
        self.rng = random.Random(seed)
        self.split = split

    def one(self, of: Sequence[T]) -> T:
        """One of a sequence."""
        return of[int(self.rng.random() * len(of))]

    def split_one(self, text: str) -> str:
        """One of the alternatives of `a|b|c`."""
        return self.one(text.split("|"))

    def some(self, of: Sequence[T], low: int, high: int) -> list[T]:
        """Between low and high different ones."""
        return self.rng.sample(of, min(self.int(low, high), len(of)))

    def chance(self, share: float) -> bool:
        """True in this share of draws."""
        return self.rng.random() < share

    def int(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.rng.randint(low, high)

    def weighted(self, choices: dict[T, float]) -> T:
        """A key, by its weight."""
        return self.rng.choices(list(choices), list(choices.values()))[0]

    def number(self, digits: int = 3) -> int:
        """Small numbers as often as large ones."""
        return self.int(0, 10 ** self.int(1, digits) - 1)

    def until_mine(self, make: Callable[[], str]) -> str:
        """A value of this split's side."""
        while held_out(value := make()) != (self.split == "eval"):
            pass
        return value

    # Words

    def strange(self) -> str:
        """A word that no list holds, in Latin letters."""
        return self.until_mine(self._strange)

    def _strange(self) -> str:
        kind = self.rng.random()
        if kind < 0.3:
            return "".join(self.one(LETTERS) for _ in range(self.int(2, 9)))
        if kind < 0.6 or not pieces():
            return "".join(self.one(HEADS) + self.one(VOWELS) for _ in range(self.int(1, 3))) + self.one(TAILS)
        if kind < 0.9:
            return "".join(self.one(pieces()) for _ in range(self.int(1, 3)))
        return "".join(self.one(ACCENTS[c]) if c in ACCENTS and self.chance(0.4) else c for c in self._latin())

    def _latin(self) -> str:
        return self.one(w.COMMON) if self.chance(0.5) else self.one(w.NAMES)

    def foreign(self) -> str:
        """A few letters of another script, or emoji."""
        return self.until_mine(self._foreign)

    def _foreign(self) -> str:
        kind = self.int(0, 8)
        if kind <= 1:
            return self._of(w_han() if kind else COMMON_HAN, 2, 7)
        if kind == 2:
            return self._of(KANA, 2, 7)
        if kind == 3:
            return self._of(KATAKANA, 2, 6)
        if kind == 4:
            return self._of(KANA, 2, 5) + self._of(COMMON_HAN, 2, 4)
        if kind == 5:
            return "".join(chr(self.int(0xAC00, 0xD7A3)) for _ in range(self.int(2, 4)))
        if kind == 6:
            return self._of(self.one((CYRILLIC, GREEK)), 3, 8).capitalize()
        if kind == 7:
            return self._of(HEBREW_ARABIC, 3, 6)
        return self._of(EMOJI, 1, 3)

    def _of(self, alphabet: str, low: int, high: int) -> str:
        return "".join(self.one(alphabet) for _ in range(self.int(low, high)))

    def plain(self) -> str:
        """An ordinary English word."""
        return self.one(w.NOUNS) if self.chance(0.5) else self.until_mine(lambda: self.one(w.COMMON))

    def word(self) -> str:
        """Any word: ordinary ones, unknown ones, now and then another script."""
        kind = self.rng.random()
        if kind < 0.45:
            return self.plain()
        return self.strange() if kind < 0.93 else self.foreign()

    def latin(self) -> str:
        """An ordinary or unknown word in a to z, for spelling."""
        while not (word := self.plain() if self.chance(0.5) else self.strange()).isascii():
            pass
        return word.lower()

    def phrase(self, low: int = 2, high: int = 6) -> str:
        """Words in a row; they need not make sense."""
        return " ".join(self._of_phrase() for _ in range(self.int(low, high)))

    def _of_phrase(self) -> str:
        kind = self.rng.random()
        if kind < 0.62:
            return self.one(self.one((w.NOUNS, w.ADJECTIVES, w.VERBS, w.ADVERBS)))
        if kind < 0.82:
            return self.plain()
        return self.word() if kind < 0.96 else str(self.number())

    def sentence(self) -> str:
        """A statement about nothing that matters."""
        return self.one(SENTENCES)(self)

    # Things

    def first_name(self) -> str:
        """A given name, often one that no list holds."""
        kind = self.rng.random()
        if kind < 0.55:
            return self.one(w.NAMES)
        return self.strange().capitalize() if kind < 0.93 else self.foreign()

    def name(self) -> str:
        """A person."""
        first = self.first_name()
        return (
            first
            if self.chance(0.65)
            else f"{first} {self.one(w.SURNAMES) if self.chance(0.6) else self.strange().title()}"
        )

    def city(self) -> str:
        """A place."""
        kind = self.rng.random()
        if kind < 0.62:
            return self.one(w.CITIES)
        return self.strange().title() if kind < 0.92 else self.foreign()

    def company(self) -> str:
        """A firm."""
        if self.chance(0.4):
            return self.foreign()
        return f"{self.strange().title()} {self.one(('Ltd', 'Inc', 'GmbH', 'Group', 'Labs', '& Sons', 'Corp'))}"

    def identifier(self) -> str:
        """A name as programs have them."""
        parts = [
            self.one(w.TOOL_VERBS + w.TOOL_NOUNS) if self.chance(0.6) else self.ascii() for _ in range(self.int(1, 3))
        ]
        style = self.int(0, 4)
        if style <= 2:
            return ("_", "-", ".")[style].join(parts)
        return (
            parts[0] + "".join(p.capitalize() for p in parts[1:])
            if style == 3
            else "".join(p.capitalize() for p in parts)
        )

    def ascii(self) -> str:
        """An unknown word in a to z."""
        while not (word := self.strange()).isascii():
            pass
        return word.lower()

    def code(self) -> str:
        """What a document calls a code, password or number."""
        kind = self.int(0, 8)
        if kind == 0:
            return str(self.int(1000, 9999))
        if kind == 1:
            return str(self.int(10_000, 9_999_999))
        if kind == 2:
            return (
                "".join(self.one("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(self.int(2, 4))) + f"-{self.int(1, 9999)}"
            )
        if kind == 3:
            return f"{self.strange()}-{self.int(1, 99)}"
        if kind == 4:
            return f"{self.one(w.ADJECTIVES)}-{self.one(w.NOUNS)}"
        if kind == 5:
            return f"{self.one(w.COLORS)} {self.plain()}"
        if kind == 6:
            return "".join(self.one("0123456789abcdef") for _ in range(self.int(6, 10)))
        return self.strange().upper() if kind == 7 else self.word()

    def email(self) -> str:
        """An address."""
        who = self.one(
            (self.one(w.NAMES).lower(), self.ascii(), f"{self.one(w.NAMES).lower()}.{self.one(w.SURNAMES).lower()}")
        )
        where = self.one(("example.com", "example.org", "mail.net", f"{self.ascii()}.com", f"{self.one(w.NOUNS)}.io"))
        return f"{who}@{where}"

    def file(self) -> str:
        """A file's name."""
        stem = self.one((self.plain, self.ascii, self.identifier))()
        return stem + self.one(
            (".txt", ".md", ".py", ".json", ".csv", ".log", ".yaml", ".toml", ".html", ".pdf", ".sh", "")
        )

    def path(self) -> str:
        """A file with its folders."""
        top = self.one(
            ("/", "/", "./", "", "~/", "../", "/etc/", "/var/log/", "/home/", "src/", "docs/", "tests/", "C:\\")
        )
        step = "\\" if top.endswith("\\") else "/"
        folders = [self.one((self.plain, self.ascii))() for _ in range(self.int(0, 2))]
        return top + step.join([*folders, self.file()])

    def url(self) -> str:
        """A web address."""
        host = self.one(
            ("example.com", "www.example.org", f"{self.ascii()}.com", f"{self.plain()}.net", f"docs.{self.ascii()}.io")
        )
        return f"https://{host}/" + "/".join(self.ascii() for _ in range(self.int(0, 2)))

    def date(self) -> str:
        """A day."""
        kind = self.int(0, 4)
        if kind == 0:
            return f"{self.int(2023, 2029)}-{self.int(1, 12):02}-{self.int(1, 28):02}"
        if kind == 1:
            return f"{self.int(1, 28)} {self.one(w.MONTHS)}"
        return f"{self.one(w.MONTHS)} {self.int(1, 28)}" if kind == 2 else self.one([*w.DAYS, "tomorrow", "today"])

    def time(self) -> str:
        """An hour of the day."""
        return (
            f"{self.int(0, 23):02}:{self.int(0, 11) * 5:02}"
            if self.chance(0.7)
            else f"{self.int(1, 12)} {self.one(('am', 'pm'))}"
        )

    def symbols(self) -> str:
        """Letters, digits and signs in a heap, as in patterns, versions and formulas."""
        sign = "!#$%&()*+,-./:;=?@[]^_{|}~"
        return "".join(
            self.one((self.one(sign), self.one(LETTERS), str(self.int(0, 9)), self.ascii()))
            for _ in range(self.int(2, 7))
        )

    def value(self) -> str:
        """Any string that someone could pass on."""
        kinds = (self.word, self.word, self.strange, self.foreign, self.name, self.city, self.code, self.email, self.path,
                 self.identifier, self.date, self.phrase, self.company, self.symbols, lambda: str(self.number(5)), self.url)  # fmt: skip
        return self.one(kinds)()


@functools.cache
def w_han() -> str:
    """The plane's ordinary Chinese characters, all of them."""
    return "".join(map(chr, range(0x4E00, 0x9FA6)))


SENTENCES: tuple[Callable[[Draw], str], ...] = (
    lambda d: f"The {d.one(w.ADJECTIVES)} {d.one(w.NOUNS)} {d.one(w.VERBS)} the {d.plain()} {d.one(w.ADVERBS)}.",
    lambda d: f"{d.one(w.NAMES)} {d.one(w.VERBS)} a {d.one(w.ADJECTIVES)} {d.one(w.NOUNS)}.",
    lambda d: f"There was a {d.plain()} behind the {d.one(w.NOUNS)}.",
    lambda d: f"Every {d.one(w.NOUNS)} is {d.one(w.ADJECTIVES)}, and so is the {d.plain()}.",
    lambda d: (
        f"{d.one(('Then', 'Later', 'Soon', 'After that', 'In the end'))} the {d.one(w.NOUNS)} {d.one(w.VERBS)} "
        f"{d.int(2, 99)} {d.one(w.NOUNS)}s."
    ),
    lambda d: f"{d.one(w.NAMES)} and {d.one(w.NAMES)} {d.one(w.VERBS)} the {d.plain()} near the {d.one(w.NOUNS)}.",
    lambda d: (
        f"A {d.one(w.NOUNS)} {d.one(w.VERBS)} {d.one(w.ADVERBS)} while the {d.one(w.NOUNS)} was {d.one(w.ADJECTIVES)}."
    ),
    lambda d: f"Nobody {d.one(w.VERBS)} the {d.strange()} {d.one(w.NOUNS)} of {d.one(w.NAMES)}.",
    lambda d: f"It is said that {d.plain()} and {d.plain()} {d.one(w.ADVERBS)} go together.",
    lambda d: d.phrase(4, 10).capitalize() + ".",
)
