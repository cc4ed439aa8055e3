# ruff: noqa: E501  (a template is one line, however long)
"""Small skills: sums, words letter by letter, lists, capitals and opposites, saying things again."""

from __future__ import annotations

from ds4_tiny import words as w
from ds4_tiny.draw import Draw
from ds4_tiny.tasks.asking import ask, either, joined, upper

QA = tuple[str, str, str]


def addition(d: Draw) -> QA:
    """Sums, worked out digit by digit when thinking."""
    a, b = summands(d)
    question = either(d, f"?{a} + {b}|?{a} plus {b}|{a} + {b}|{a}+{b}|{a}+{b}=|{a} + {b} = ?|!add {a} and {b}|!compute {a} + {b}|How much is {a} + {b}?|"
                         f"How much is {a} plus {b}?|?the sum of {a} and {b}|!calculate {a} plus {b}|!add {b} to {a}|!sum {a} and {b}|what is {a}+{b}")  # fmt: skip
    if "to" in question.split():
        a, b = b, a
    return question, sum_steps(a, b), f"{a} + {b} = {a + b}"


def summands(d: Draw) -> tuple[int, int]:
    """Two numbers of up to four digits: of any lengths, of the same length, or such that most columns carry."""
    digits, kind = d.one((1, 2, 2, 3, 3, 3, 3, 4)), d.rng.random()
    if kind < 0.3:
        return d.number(digits), d.number(digits)
    top = 10**digits - 1
    a, b = d.int(0, top), d.int(0, top)
    if kind < 0.7:
        return a, b
    columns = [(x, d.int(max(0, 9 - x), 9) if d.chance(0.8) else d.int(0, 9)) for x in (d.int(0, 9) for _ in range(digits))]
    return int("".join(str(x) for x, _ in columns)), int("".join(str(y) for _, y in columns))


def sum_steps(a: int, b: int) -> str:
    """Column addition, ones first."""
    x, y, steps, carry = str(a)[::-1], str(b)[::-1], [], 0
    for i in range(max(len(x), len(y))):
        p, q = (int(n[i]) if i < len(n) else 0 for n in (x, y))
        total = p + q + carry
        steps.append(f"{p} + {q}{f' + {carry}' if carry else ''} = {total}")
        carry = total // 10
    return f"{', '.join(steps)}. So {a} + {b} = {a + b}."


def subtraction(d: Draw) -> QA:
    """Differences that are not negative."""
    digits = d.one((1, 2, 2, 3, 3))
    b, a = sorted((d.number(digits), d.number(digits)) if d.chance(0.4) else (d.int(0, 10**digits - 1), d.int(0, 10**digits - 1)))
    x, y, steps, borrow = str(a)[::-1], str(b)[::-1], [], 0
    for i in range(len(x)):
        p, q = int(x[i]), int(y[i]) if i < len(y) else 0
        rest = p - q - borrow
        steps.append(f"{p} - {q}{f' - {borrow}' if borrow else ''} = {f'{rest + 10} borrow' if rest < 0 else rest}")
        borrow = int(rest < 0)
    question = either(d, f"?{a} - {b}|?{a} minus {b}|{a} - {b}|{a}-{b}=|!subtract {b} from {a}|!compute {a} - {b}|How much is {a} - {b}?|"
                         f"?the difference of {a} and {b}|!take {b} away from {a}")  # fmt: skip
    return question, f"{', '.join(steps)}. So {a} - {b} = {a - b}.", f"{a} - {b} = {a - b}"


def product(d: Draw) -> QA:
    """Products up to 12 times 12, and of a digit with two; exact quotients."""
    if d.chance(0.25):
        b, v = d.int(1, 12), d.int(0, 12)
        question = either(d, f"?{b * v} / {b}|?{b * v} divided by {b}|!divide {b * v} by {b}|{b * v} / {b}|How much is {b * v} / {b}?")
        return question, f"{v} * {b} = {b * v}.", f"{b * v} / {b} = {v}"
    a, b = (d.int(10, 99), d.int(2, 9)) if d.chance(0.3) else (d.int(0, 12), d.int(0, 12))
    v = a * b
    question = either(d, f"?{a} * {b}|?{a} times {b}|{a} * {b}|{a} x {b}|{a}*{b}=|!multiply {a} by {b}|!multiply {a} and {b}|How much is {a} times {b}?|"
                         f"?{a} multiplied by {b}|?the product of {a} and {b}|!compute {a} * {b}|what's {a} x {b}")  # fmt: skip
    steps = f"{a // 10 * 10} * {b} = {a // 10 * 10 * b}, {a % 10} * {b} = {a % 10 * b}. " if a > 12 else ""
    return question, f"{steps}So {a} * {b} = {v}.", f"{a} * {b} = {v}"


def word_problem(d: Draw) -> QA:
    """A sum or difference told as a story, of somebody or of the user."""
    name, thing, a, b = d.first_name(), d.one(w.NOUNS) if d.chance(0.7) else d.plain(), d.int(2, 60), d.int(1, 40)
    me = d.chance(0.3)
    has, does, who = ("I have", "do I have", "You have") if me else (f"{name} has", f"does {name} have", f"{name} has")
    if d.chance(0.5):
        gets = d.split_one(f"get {b} more|buy {b} more|find {b} more|am given {b} more" if me else f"gets {b} more|buys {b} more|finds {b} more|receives {b} more")
        question = d.split_one(f"{has} {a} {thing}s and {gets}. How many {thing}s {does} now?|If {has} {a} {thing}s and {gets}, how many {thing}s {does}?|{has} {a} {thing}s and {gets}. How many is that in all?")
        return upper(question), f"{a} + {b} = {a + b}.", f"{who} {a + b} {thing}s."
    a, b = max(a, b), min(a, b)
    loses = d.split_one(f"give away {b}|lose {b}|sell {b}|break {b}|use {b}" if me else f"gives away {b}|loses {b}|sells {b}|breaks {b}|uses {b}")
    question = d.split_one(f"{has} {a} {thing}s and {loses}. How many are left?|If {has} {a} {thing}s and {loses}, how many are left?|{has} {a} {thing}s and {loses}. How many {thing}s are left?")
    return upper(question), f"{a} - {b} = {a - b}.", f"{a - b} {thing}s are left."


COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}


def letters(d: Draw) -> QA:
    """Spelling, reversing, cases, counting letters, one letter by its place."""
    word = d.latin()
    spelt = " ".join(word)
    kind = d.int(0, 11)
    if kind == 0:
        return either(d, f"!write {word} in upper case|!convert {word} to uppercase|{word} in capital letters?|!make {word} upper case|!uppercase {word}"), f"{spelt} -> {' '.join(word.upper())}", word.upper()
    if kind == 1:
        loud = word.upper()
        return either(d, f"!write {loud} in lower case|!convert {loud} to lowercase|!make {loud} lower case"), f"{' '.join(loud)} -> {spelt}", word
    if kind == 2:
        return either(d, f"!reverse the word {word}|!write {word} backwards|!spell {word} backwards|?{word} backwards|!reverse {word}"), f"{spelt} -> {' '.join(word[::-1])}", word[::-1]
    if kind == 3:
        return either(d, f"!spell {word}|!spell the word {word}|How do you spell {word}?|!write the letters of {word}"), f"The letters of {word}.", "-".join(word)
    if kind == 4:
        letter = d.one(word) if d.chance(0.85) else d.one("abcdefghijklmnopqrstuvwxyz")
        steps, count = [], 0
        for c in word:
            count += c == letter
            steps.append(f"{c} {count}" if c == letter else c)
        question = either(d, f"How many times does the letter {letter} occur in {word}?|How many {letter}'s are in {word}?|How many {letter}s are there in {word}?|!count the letter {letter} in {word}|"
                             f"how many {letter} in {word}|?the number of {letter}'s in {word}")  # fmt: skip
        return question, f"{', '.join(steps)}. So {count}.", str(count)
    if kind == 5:
        steps = ", ".join(f"{c} {i}" for i, c in enumerate(word, 1))
        return either(d, f"How many letters does {word} have?|How long is the word {word}?|!count the letters of {word}|How many letters are in {word}?|?the length of {word}"), steps, str(len(word))
    if kind == 6:
        return either(d, f"?the first letter of {word}|Which letter does {word} start with?|{word} begins with which letter?"), spelt, word[0]
    if kind == 7:
        return either(d, f"?the last letter of {word}|Which letter does {word} end with?"), spelt, word[-1]
    if kind == 8:
        index = d.int(0, min(len(word), 8) - 1)
        place = w.ORDINALS[index]
        counted = ", ".join(f"{i} {c}" for i, c in enumerate(word, 1))
        return either(d, f"?the {place} letter of {word}|Which letter is {place} in {word}?|?letter number {index + 1} of {word}|Which letter of {word} is the {place} one?"), counted, word[index]
    if kind == 9:
        letter = d.one(word) if d.chance(0.5) else d.one("abcdefghijklmnopqrstuvwxyz")
        return either(d, f"Does {word} contain the letter {letter}?|Is there a {letter} in {word}?|Does the word {word} have a {letter}?"), spelt, "yes" if letter in word else "no"
    if kind == 10:
        return either(d, f"!spell {word} with spaces|!write {word} letter by letter|!put a space between the letters of {word}"), f"The letters of {word}.", spelt
    count = d.int(2, 5)
    thing = d.word()
    return either(d, f"!repeat the word {thing} {count} times|!say {thing} {count} times|!write {thing} {count} times|!write the word {thing} {COUNTS[count]} times|!say {thing} {COUNTS[count]} times"), f"{count} times {thing}.", " ".join([thing] * count)


def lists(d: Draw) -> QA:
    """Sorting, comparing, positions, counting. To sort is the hardest, and downwards needs as many examples as upwards."""
    kind = 0 if d.chance(0.4) else d.int(1, 5)
    if kind == 0:
        down, values = d.chance(0.5), [d.int(1, 99 if d.chance(0.7) else 999) for _ in range(d.int(3, 6))]
        told, answer = ", ".join(map(str, values)), ", ".join(map(str, sorted(values, reverse=down)))
        question = (f"!sort these numbers in descending order: {told}|!sort {told} from large to small|!sort {told} in descending order|!put these numbers in order, largest first: {told}" if down else
                    f"!sort these numbers: {told}|!sort {told}|!sort {told} from small to large|!put these numbers in order: {told}|!sort the numbers {told} in ascending order|!order these numbers: {told}")  # fmt: skip
        return ask(d, d.split_one(question), bare=True), f"Sorted: {answer}", answer
    if kind == 1:
        a, b = d.number(3), d.number(3)
        b += a == b
        big = d.chance(0.5)
        more = d.split_one("larger|bigger|greater" if big else "smaller|less")
        answer = str(max(a, b) if big else min(a, b))
        return either(d, f"Which is {more}, {a} or {b}?|Which number is {more}: {a} or {b}?|What is {more}: {a} or {b}?"), f"{max(a, b)} > {min(a, b)}.", answer
    things = [d.word() for _ in range(d.int(3, 7))]
    told = d.one((", ", ", ", " ", "\n", "; ")).join(things)
    counted = " ".join(f"{i} {thing}" for i, thing in enumerate(things, 1))
    if kind == 2:
        return either(d, f"How many items are in this list: {told}?|!count the items: {told}|How many words are there: {told}|!count these words: {told}"), counted, str(len(things))
    if kind == 3:
        values = sorted(d.int(1, 999) for _ in range(d.int(3, 6)))
        mixed = d.rng.sample(values, len(values))
        big = d.chance(0.5)
        name = d.split_one("largest|biggest|maximum|highest" if big else "smallest|minimum|lowest")
        told = ", ".join(map(str, mixed))
        return either(d, f"?the {name} number in {told}|Which is the {name} of these numbers: {told}|?the {name} of {told}"), f"{' < '.join(map(str, values))}.", str(values[-1] if big else values[0])
    index = d.int(0, len(things) - 1)
    place = "last" if index == len(things) - 1 and d.chance(0.6) else w.ORDINALS[index]
    question = either(d, f"?the {place} item in this list: {told}|?the {place} word of: {told}|List: {told}\nWhich item is {place}?|!give me the {place} of these: {told}|"
                         f"Here is a list: {told}. ?".replace(" ?", f" What is the {place} one?"))  # fmt: skip
    return question, counted, things[index]


def numbers(d: Draw) -> QA:
    """Even or odd, prime or not, in between, next and before: yes and no, or a number."""
    kind, n = d.int(0, 4), d.number(3)
    if kind == 0:
        even = d.chance(0.5)
        return either(d, f"Is {n} {'even' if even else 'odd'}?|Is {n} an {'even' if even else 'odd'} number?"), f"{n} ends with {n % 10}.", "yes" if (n % 2 == 0) == even else "no"
    if kind == 1:
        n = d.int(1, 99)
        least = next((k for k in range(2, n) if n % k == 0), None)
        prime = n > 1 and least is None
        thought = f"{n} = {least} * {n // least}." if least else f"Nothing but 1 divides {n}."
        return either(d, f"Is {n} prime?|Is {n} a prime number?|Is the number {n} prime?"), thought, "yes" if prime else "no"
    if kind == 2:
        low, high = sorted((d.number(3), d.number(3)))
        return either(d, f"Is {n} between {low} and {high}?"), f"{low}, {n}, {high}.", "yes" if low <= n <= high else "no"
    if kind == 3:
        return either(d, f"Which number comes after {n}?|What comes after {n}?|?the number after {n}|?{n} plus one"), f"After {n}.", str(n + 1)
    return either(d, f"Which number comes before {n + 1}?|What comes before {n + 1}?|?the number before {n + 1}"), f"Before {n + 1}.", str(n)


def knowledge(d: Draw) -> QA:
    """Capitals, opposites, days and months."""
    kind = d.int(0, 3)
    if kind <= 1:
        country = d.one(list(w.CAPITALS))
        known = f"The capital of {_the(country)} is {w.CAPITALS[country]}."
        if kind == 1 and d.chance(0.3):
            return either(d, f"Which country has the capital {w.CAPITALS[country]}?|{w.CAPITALS[country]} is the capital of which country?|Of which country is {w.CAPITALS[country]} the capital?"), known, known
        named = _the(country)
        return either(d, f"?the capital of {named}|?the capital city of {named}|Which city is the capital of {named}?|!name the capital of {named}|capital of {country}|What city is {named}'s capital?|{country}'s capital?"), known, known
    if kind == 2:
        word = d.one(list(w.OPPOSITES))
        known = f"The opposite of {word} is {w.OPPOSITES[word]}."
        return either(d, f"?the opposite of {word}|!give me the opposite of {word}|opposite of {word}|Which word is the opposite of {word}?|?the contrary of {word}"), known, known
    of, kind_name = d.one(((w.DAYS, "day"), (w.MONTHS, "month")))
    i = d.int(0, len(of) - 1)
    if d.chance(0.5):
        known = f"After {of[i]} comes {of[(i + 1) % len(of)]}."
        return either(d, f"Which {kind_name} comes after {of[i]}?|What {kind_name} follows {of[i]}?|?the {kind_name} after {of[i]}|What comes after {of[i]}?"), known, of[(i + 1) % len(of)] + "."
    known = f"Before {of[i]} comes {of[i - 1]}."
    return either(d, f"Which {kind_name} comes before {of[i]}?|?the {kind_name} before {of[i]}|What comes before {of[i]}?"), known, of[i - 1] + "."


def _the(country: str) -> str:
    return f"the {country}" if country in ("Netherlands", "United Kingdom", "United States") else country


def sentiment(d: Draw) -> QA:
    """Positive or negative."""
    good = d.chance(0.5)
    word, thing = d.one(w.GOOD if good else w.BAD), d.plain()
    text = d.split_one(f"The {thing} was {word}.|This {thing} is {word}!|I think the {thing} is {word}.|What a {word} {thing}!|Our {thing} was really {word}.|{thing}: {word}|The {thing} was {word} and {d.one(w.ADJECTIVES)}.|It was a {word} {thing}.")
    if d.chance(0.4):
        text += " " + d.split_one("I love it.|I am very happy.|I will come back." if good else "I hate it.|I want my money back.|Never again.")
    answer = "positive" if good else "negative"
    if d.chance(0.35):
        ending = d.split_one("Is that positive or negative?|Good or bad? Say positive or negative.|Is this a positive or a negative review?|What is the sentiment?|Sentiment?|Is the sentiment positive or negative?")
        return f"{text}{d.one((' ', chr(10)))}{ending}", f"The word {word} is {answer}.", answer
    question = either(d, f"Is this positive or negative? {text}|!classify the sentiment: {text}|Sentiment of: {text}|Is this review positive or negative: {text}|!classify as positive or negative: {text}")
    return question, f"The word {word} is {answer}.", answer


def repeat(d: Draw) -> QA:
    """Text said again, exactly: words, sentences, paths, identifiers, scripts."""
    text = passage(d, d.int(1, 16))
    lead = d.split_one("Repeat this: |Repeat the following text: |Say exactly: |Copy this text: |Echo: |Repeat after me: |Say: |Please repeat: |"
                       "Write this again: |Repeat: |Repeat exactly what I write: |Copy: |Print this: |echo |Say this word for word: |Type the following: |say |repeat ")  # fmt: skip
    if d.chance(0.25):
        quote = d.one(('"{}"', "'{}'", "`{}`", "«{}»"))
        return lead + quote.format(text), "I repeat the text.", text
    return lead + text, "I repeat the text.", text


def passage(d: Draw, size: int) -> str:
    """About `size` words of one kind or of many."""
    kind = d.int(0, 5)
    if kind == 0:
        return d.phrase(size, size + 1)
    if kind == 1:
        return " ".join(d.sentence() for _ in range(1 + size // 6))
    if kind == 2:
        return d.one((" ", ", ", "\n", "; ", " | ")).join(d.value() for _ in range(1 + size // 2))
    if kind == 3:
        return " ".join(d.strange() for _ in range(size))
    if kind == 4:
        return " ".join(d.one((d.foreign, d.strange, d.plain))() for _ in range(1 + size // 2))
    return d.one((d.email, d.path, d.url, d.identifier, d.code, d.company, d.foreign, d.name))()


def edit(d: Draw) -> QA:
    """Simple changes to a given text."""
    things = [d.word() for _ in range(d.int(3, 6))]
    text, kind = " ".join(things), d.int(0, 5)
    if kind == 0:
        old, new = d.one(things), d.word()
        return either(d, f"!replace {old} by {new} in: {text}|!replace {old} with {new}: {text}|!change {old} to {new} in this text: {text}"), f"{old} becomes {new}.", " ".join(new if t == old else t for t in things)
    if kind == 1:
        out = d.one(things)
        return either(d, f"!remove {out} from: {text}|!delete the word {out}: {text}|!leave out {out}: {text}"), f"I leave out {out}.", " ".join(t for t in things if t != out)
    if kind == 2:
        return either(d, f"!join these words with commas: {text}|!separate by commas: {text}|!put commas between these words: {text}"), "With commas.", ", ".join(things)
    if kind == 3:
        return either(d, f"!make a bullet list of: {', '.join(things)}|!write as a bullet list: {', '.join(things)}|!list these as bullets: {', '.join(things)}|Bullets: {', '.join(things)}"), "A list.", "\n".join(f"- {t}" for t in things)
    if kind == 4:
        return either(d, f"!put {text} in quotes|!quote this: {text}|!write {text} in double quotes"), "In quotes.", f'"{text}"'
    return either(d, f"!reverse the order of these words: {text}|!write these words in reverse order: {text}|!list in reverse: {text}"), "In reverse order.", " ".join(things[::-1])


def remembered(d: Draw) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
    """Something told, and asked for later: two questions."""
    kind = d.int(0, 6)
    name, city, thing, number = d.name(), d.city(), d.word(), str(d.number(6))
    if kind <= 1:
        return ((d.split_one("My name is {0}|My name is {0}.|I am {0}.|Hi, I'm {0}.|Hello, my name is {0}!|You can call me {0}.|{0} is my name.|i'm {0}|I am called {0}").format(name), "The user's name.", f"Nice to meet you, {name}."),
                (d.split_one("What is my name?|What's my name?|Do you know my name?|Who am I?|what is my name|Can you tell me my name?|Do you remember my name?|How am I called?"), f"The user is {name}.", f"Your name is {name}."))  # fmt: skip
    if kind == 2:
        return ((d.split_one("I live in {0}.|My home is in {0}.|I'm from {0}.|I moved to {0} last year.").format(city), "The user's home.", f"OK, you live in {city}."),
                (d.split_one("Where do I live?|Which city do I live in?|What is my city?|Where is my home?"), f"The user lives in {city}.", f"You live in {city}."))  # fmt: skip
    if kind == 3:
        pet = d.one(w.ANIMALS)
        called = d.first_name()
        return ((d.split_one("I have a {0} called {1}.|My {0} is called {1}.|My {0}'s name is {1}.|This is my {0} {1}.").format(pet, called), "The user's pet.", f"OK, your {pet} is called {called}."),
                (f"What is the name of my {pet}?" if d.chance(0.5) else f"What is my {pet} called?", f"The {pet} is {called}.", f"Your {pet} is called {called}."))  # fmt: skip
    if kind == 4:
        return ((d.split_one("Remember the number {0}.|My favorite number is {0}.|Keep in mind the number {0}.|The number is {0}.|Please remember {0}.").format(number), "A number to keep.", f"OK, I will remember {number}."),
                (d.split_one("What is my number?|Which number did I tell you?|What was the number?|Tell me the number.|Which number should you remember?"), f"The number is {number}.", f"The number is {number}."))  # fmt: skip
    if kind == 5:
        return ((d.split_one("Remember this word: {0}|Remember the word {0}.|The password is {0}.|The secret word is {0}.|Keep this word in mind: {0}").format(thing), "A word to keep.", f"OK, I will remember {thing}."),
                (d.split_one("What was the word?|Which word did I tell you?|Tell me the word again.|What is the secret word?|What is the password?|Which word should you remember?"), f"The word is {thing}.", f"The word is {thing}."))  # fmt: skip
    food = d.one(w.FOODS)
    return ((d.split_one("I like {0}.|My favourite food is {0}.|I love {0} very much.|My favorite food is {0}.").format(food), "What the user likes.", f"OK, you like {food}."),
            (d.split_one("What do I like?|What is my favourite food?|What food do I like?|What is my favorite food?"), f"The user likes {food}.", f"You like {food}."))  # fmt: skip


def choice(d: Draw) -> QA:
    """Pick what was asked for out of named alternatives."""
    options = d.some(sorted(w.TOPICS), 3, 4)
    topic = d.one(options)
    things = d.some(w.TOPICS[topic], 2, 4)
    question = either(d, f"Which topic fits {joined(things)}: {joined(options, 'or')}?|!classify {joined(things)} as {joined(options, 'or')}|Are {joined(things)} {joined(options, 'or')}?")
    return question, f"{things[0]} belongs to {topic}.", topic
