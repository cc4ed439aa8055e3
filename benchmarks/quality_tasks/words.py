"""Ordinary words that ds4-tiny's vocabulary knows, and sentences made of them."""

from __future__ import annotations

from random import Random


def _list(text: str) -> list[str]:
    return text.split()


NOUNS = _list(
    "apple bread river stone table window garden bottle candle basket hammer mirror bridge castle island kettle lemon "
    "market needle pocket rabbit rocket school silver spring station teapot temple ticket tiger tower train valley "
    "violin wagon whistle winter lantern library planet pumpkin puzzle salmon ship soup star storm umbrella wheel"
)
ADJECTIVES = _list("old young small large quick slow bright dark quiet happy brave clever lazy hungry tired green")
VERBS = _list("opened carried painted cleaned watched followed found sold pulled visited counted fixed washed moved")
ADVERBS = _list("quickly slowly quietly happily carefully loudly today again")
NAMES = _list(
    "Anna Bob Clara David Emma Frank Grace Henry Irene Jack Karen Leo Maria Nina Oscar Paula Rosa Sam Tina Victor "
    "Walter Adam Bella Carlos Diana Edgar George Julia Kevin Laura Peter Simon Alice"
)
CITIES = _list(
    "Paris Rome Madrid Berlin Lisbon Athens Oslo Stockholm Vienna Budapest Dublin Moscow Cairo Tokyo London Boston "
    "Chicago Milan Munich Sydney Toronto Prague Venice Hamburg"
)
JOBS = _list("teacher doctor pilot baker farmer sailor painter writer singer lawyer nurse driver gardener")
COLORS = _list("red blue green yellow black white brown pink purple orange")
ANIMALS = _list("fox bear wolf rabbit owl mouse lion tiger turtle frog cat dog horse goat")
DAYS = _list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Portugal": "Lisbon",
    "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen",
    "Poland": "Warsaw", "Austria": "Vienna", "Hungary": "Budapest", "Ireland": "Dublin", "Belgium": "Brussels",
    "Russia": "Moscow", "Egypt": "Cairo", "Kenya": "Nairobi", "Japan": "Tokyo", "China": "Beijing",
    "Canada": "Ottawa", "Cuba": "Havana", "Chile": "Santiago", "Peru": "Lima", "Nepal": "Kathmandu",
    "Romania": "Bucharest", "Croatia": "Zagreb", "Iceland": "Reykjavik",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "left": "right", "rich": "poor", "happy": "sad",
    "open": "closed", "hard": "soft", "wet": "dry", "long": "short", "full": "empty", "early": "late",
    "strong": "weak", "loud": "quiet", "high": "low", "good": "bad", "true": "false", "near": "far", "buy": "sell",
}  # fmt: skip


def sentence(rng: Random) -> str:
    """A plain sentence that states no fact anybody asks for."""
    one, two = rng.sample(NOUNS, 2)
    patterns = (
        f"The {rng.choice(ADJECTIVES)} {one} {rng.choice(VERBS)} the {two} {rng.choice(ADVERBS)}.",
        f"{rng.choice(NAMES)} {rng.choice(VERBS)} a {rng.choice(ADJECTIVES)} {one}.",
        f"There was a {rng.choice(ADJECTIVES)} {one} behind the {two}.",
        f"Later the {one} {rng.choice(VERBS)} {rng.randint(2, 99)} {two}s.",
    )
    return rng.choice(patterns)


def words(rng: Random, low: int, high: int) -> str:
    """A few words in a row."""
    return " ".join(rng.choice(NOUNS + ADJECTIVES) for _ in range(rng.randint(low, high)))
