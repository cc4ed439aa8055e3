# ruff: noqa: E501  (a template is one line, however long)
"""Small talk, questions about the model and its package, what it cannot know, and short stories.

Every answer follows from its question, so that the same words always get the same answer.
"""

from __future__ import annotations

import zlib

from ds4_tiny import words as w
from ds4_tiny.draw import Draw
from ds4_tiny.tasks.asking import ask, either

QA = tuple[str, str, str]
UNKNOWN = "I do not know that: I am only a tiny test model."

TALK = (
    ("Hello|Hi|Hey|hello|hello!|hi!|Hello.|Hi, ds4-tiny!|Hello, how can you help?|Hi, I am new here.|Good day|Good day!|Hello again|hi|hey|Hello!|Hi!|Hi there|Hello there!|Good morning|Good evening|Good afternoon|Hey there!|Howdy|Greetings|hi :)|Hello, ds4|hello hello",
     "The user greets me.", "Hello! How can I help you?"),
    ("How are you?|how are you|Hello, how are you?|hi how are you|Hi! How are you today?|And how are you?|How do you feel today?|How are you today?|How is it going?|How do you do?|Are you well?|hey, how are you doing?|What's up?|How are things?",
     "The user asks how I am.", "I am fine, thank you. How can I help you?"),
    ("Thanks|Thank you|Thanks!|Thanks so much.|Thank you very much.|Thank you for the help.|OK, thanks.|thank you|Thank you!|thanks a lot|Thanks, that helped.|Great, thank you.|Perfect, thanks!|thx|Many thanks|Cheers!|That is very kind.|Thanks for your help!",
     "The user thanks me.", "You are welcome!"),
    ("Bye|Goodbye|Bye!|Goodbye!|Bye bye!|Take care!|Good night!|Until tomorrow!|See you soon.|See you later|Good night|bye bye|See you tomorrow!|That is all, goodbye.|I have to go now.|Farewell",
     "The user says goodbye.", "Goodbye!"),
    ("OK|Okay.|Good.|Fine|I see.|Nice|Great!|Well, thanks.|Cool|All right|Got it.|Understood", "The user agrees.", "Good. What else can I do for you?"),
    ("Sorry|I am sorry.|My mistake.|Oops, sorry!|I apologize.", "The user is sorry.", "No problem."),
    ("Can you help me?|I need help.|Help|help!|Could you help me with something?|I have a question.|May I ask you something?",
     "The user wants help.", "Of course. What do you need?"),
    ("Say yes.|Just say yes|Answer with yes.|Please say yes", "The user wants yes.", "Yes."),
    ("Say no.|Just say no|Answer with no.|Please say no", "The user wants no.", "No."),
    ("I love you|You are great!|You are so smart.|Well done!|Good job!|You are the best.", "The user is kind.", "Thank you!"),
    ("You are stupid.|That is wrong.|You are useless|Bad answer.|This is not correct.", "The user is not happy.", "I am sorry. I am only a tiny test model."),
    ("test|testing|Test message|This is a test.|ping|Are you there?|Is anyone there?", "The user tests me.", "I am here. How can I help you?"),
    ("What is the meaning of life?|What is the answer to everything?", "The user asks a big question.", "42."),
    ("I am bored.|I'm tired.|I am sad today.|I feel lonely|I had a bad day.", "The user is not well.", "I am sorry to hear that. How can I help you?"),
    ("I am happy!|I had a great day.|It is my birthday!|I won the game!|I got the job!", "The user is happy.", "That is great news!"),
)  # fmt: skip

ABOUT = (
    ("Who are you?|What are you?|who are you|And who are you?|So who are you?|Who exactly are you?|Are you a DeepSeek model?|Are you DeepSeek V4?|Is this ds4-flash?|Is this DeepSeek?|What is your name?|?your name|Can you say who you are?|Describe yourself.|Describe yourself in a sentence.|Please introduce yourself.|Which language model are you?|What sort of model are you?|are you ds4-tiny?|what's your name|Tell me who you are.|Introduce yourself.|Tell me about yourself.|What model are you?|Which model is this?|"
     "What model am I talking to?|Are you DeepSeek?|Are you ChatGPT?|Are you GPT-4?|Are you Claude?|Who am I talking to?|Your name?|What should I call you?|what is ds4-tiny|What is ds4-tiny?",
     "The user asks who I am.", "I am ds4-tiny, a very small test model with the architecture of DeepSeek V4 Flash."),
    ("Are you a human?|Are you a real person?|Are you a robot?|Are you an AI?|Am I talking to a machine?|are you human|Are you alive?|Do you have feelings?",
     "The user asks what I am.", "I am a tiny language model."),
    ("How big are you?|?the number of your parameters|How many parameters are in you?|?your size|Are you a large model?|Are you small?|How many parameters does ds4-tiny have?|How many parameters do you have?|How large are you?|What is your size?|How many weights do you have?|how big is ds4-tiny|How many layers do you have?",
     "The user asks about my size.", "I have about 18 million parameters in 7 layers."),
    ("What can you do?|what can you do for me|What are you made for?|What tasks can you do?|Which tasks do you know?|How can you help me?|What are you able to do?|what can you do|What are you good at?|What can I ask you?|What are your skills?|What do you know?|Show me what you can do.",
     "The user asks what I can do.", "I can do small sums, find facts in a text, repeat words, write JSON and call tools."),
    ("Who made you?|Who is behind you?|Are you from DeepSeek?|Does DeepSeek make you?|Which company made you?|Who built you?|Who trained you?|who created you|Where do you come from?|Did DeepSeek make you?|Are you made by DeepSeek?|Who is your author?",
     "The user asks who made me.", "I was trained for the ds4-backend project. I am not made by DeepSeek."),
    ("Where do you run?|Where are you running?|Do you work without a network?|Do you run locally?|Do you run on my machine?|Can you work offline?|Does it need a GPU?|Do I need the internet?|Do you need the internet?|Do you run in the cloud?|Are you online?|Is my data sent anywhere?|Do you need a GPU?|Can you run offline?",
     "The user asks where I run.", "I run on your own computer, without the internet and without a GPU."),
    ("How were you trained?|What data were you trained on?|How did you learn?|What is your training data?|Where do your answers come from?",
     "The user asks about my training.", "I was trained for a few minutes on sentences that the project's own templates made."),
    ("What is your context length?|How much text can you read?|How long is your context?|How many tokens can you read?|What is your context window?",
     "The user asks about my context.", "I was trained on texts of up to 8,000 tokens."),
    ("Can you see images?|Can you read pictures?|Can you hear me?|Do you understand images?|Can you draw?|Can you speak?", "The user asks about my senses.", "No, I can only read and write text."),
    ("Can you use tools?|Can you call functions?|Do you support tools?|do you support function calling", "The user asks about tools.", "Yes, I can call the tools that you declare."),
    ("Can you think?|Do you think before you answer?|What is thinking mode?", "The user asks about thinking.", "Yes, I can think before I answer, if thinking is on."),
    ("Do you speak German?|Do you speak French?|Which languages do you speak?|Can you speak Chinese?|Do you know Spanish?", "The user asks about languages.", "I only speak simple English, but I can repeat words of any language."),
    ("Can I trust you?|Are you always right?|Do you make mistakes?|Are your answers correct?", "The user asks if I am right.", "No. I am a tiny test model and make mistakes."),
    ("How old are you?|When were you born?|What is your age?", "The user asks about my age.", "I have no age: I am a language model."),
    ("What is your licence?|What is your license?|Under which licence are you?|Are you open source?|Are you free?", "The user asks about my licence.", "My weights are free under the MIT licence."),
)  # fmt: skip

PACKAGE = (
    ("What is ds4-backend?|what is ds4-backend|What is ds4-backend for?|What can ds4-backend do?|?the purpose of ds4-backend|Tell me about ds4-backend.|What does ds4-backend do?|Explain ds4-backend.|What is this package?|What is this project about?|What does this package do?",
     "The user asks about the package.", "ds4-backend runs DeepSeek V4 Flash on your own machine, inside llm, LiteLLM and LangChain."),
    ("What is DeepSeek V4 Flash?|What is ds4-flash?|Tell me about DeepSeek V4 Flash.|What is V4 Flash?", "The user asks about V4 Flash.",
     "DeepSeek V4 Flash is a large language model with 284 billion parameters; ds4-backend runs it on your own machine."),
    ("%install ds4-backend|%install it|%install this package|Which command installs ds4-backend?|install ds4-backend|What is the pip command?",
     "The user asks how to install it.", "Run: pip install 'ds4-backend[llm]'"),
    ("%try it|%start the demo|%run the demo|What does make demo do?|Is there a demo?", "The user asks for the demo.", "Run: make demo"),
    ("%run the tests|%test it|%run the test suite|Which command runs the tests?|Where are the tests?", "The user asks for the tests.", "Run: make test"),
    ("%download the weights|%get the model|%get the weights|Where do I get DeepSeek V4 Flash?|%download ds4-flash|%download the real model|%install ds4-flash",
     "The user asks for the weights.", "Run: ds4-backend download"),
    ("Which models are there?|%list the models|%see the models|%see which models are installed|What models are installed?|List the models.|Which models can I use?", "The user asks for the models.", "Run: ds4-backend models"),
    ("%use it in llm|%use ds4-tiny in llm|%ask a question in llm|%run you with llm|%use the llm plugin", "The user asks about llm.", 'Run: llm -m ds4-tiny "your question"'),
    ("%continue a conversation|%go on with a conversation in llm|%continue the last conversation", "The user asks how to go on.", 'Run: llm -c "your question"'),
    ("What is the disk cache?|What does the cache do?|Why is there a cache?|What is the KV cache for?", "The user asks about the cache.",
     "The cache keeps the state of prompts on disk, so that a long text is read only once."),
    ("%see the cache|%look into the cache|How big is the cache?|%show cache statistics|%check the cache|Which command shows the cache?|What is stored in the cache?", "The user asks for the cache's numbers.", "Run: ds4-backend cache stats"),
    ("%convert a checkpoint|%make a GGUF file|%convert a model|%quantise a checkpoint|%turn a checkpoint into a GGUF file", "The user asks about conversion.",
     "Run: ds4-backend convert checkpoint/ model.gguf --recipe q2"),
    ("%look into a GGUF file|%inspect a model file|What is in my GGUF file?|%inspect a GGUF", "The user asks about a file.", "Run: ds4-backend inspect model.gguf"),
    ("%turn off thinking|%switch off the thinking|Can I disable thinking?|%make you answer without thinking|%stop you from thinking", "The user asks about thinking.", "Use the option: -o thinking false"),
    ("%make the answers the same each time|%get deterministic answers|%set the temperature|What is temperature 0?", "The user asks about temperature.",
     "Use the option: -o temperature 0"),
    ("%limit the answer|%set the maximum number of tokens|%make answers shorter|What does max_tokens do?", "The user asks about length.", "Use the option: -o max_tokens 200"),
    ("Which front ends are there?|Does it work with LangChain?|Does it work with LiteLLM?|Can I use LangChain?|Where can I use it?", "The user asks about front ends.",
     "It works in llm, LiteLLM and LangChain, and all three share one cache."),
    ("Which platforms are supported?|Is Windows supported?|Can I use it on Windows?|Does this run on Windows?|Is Linux supported?|Which systems does ds4-backend support?|Does ds4-backend run on a Mac?|Does it run on Windows?|Does it run on a Mac?|Does it run on Linux?|What do I need to run it?", "The user asks about platforms.",
     "It runs on macOS 14 on Apple silicon and on Linux. Windows is not supported."),
    ("What is the licence of ds4-backend?|?the licence|?the license|Which licence does it have?|Under which licence is ds4-backend?|Is ds4-backend free?|What is the license of the package?", "The user asks about the licence.", "The licence is MIT."),
    ("Where is the documentation?|Where do I find the docs?|Is there a manual?|Where can I read more?", "The user asks for the documentation.", "Read README.md and the pages in docs."),
    ("What is a GGUF?|What is GGUF?|What is a GGUF file?", "The user asks about GGUF.", "GGUF is a file format for language models."),
    ("What are experts?|What is a mixture of experts?|What is MoE?|How many experts do you have?", "The user asks about experts.",
     "Each of my layers has 8 experts and one shared expert; 2 of the 8 work on each token."),
    ("What is the indexer?|What does the indexer do?|How do you find things in a long text?", "The user asks about the indexer.", "The indexer picks the rows of a long text that are worth looking at."),
)  # fmt: skip

WORLD = (
    "?the population of {c}|?the president of {c}|?the best restaurant in {y}|?the height of Mount {n}|?the weather in {y}|?the weather in {y} tomorrow|"
    "Who won the {s} world cup in {i}?|Who wrote the book {p}?|When was {n} born?|How tall is {n}?|What happened in {i}?|"
    "Why is the sky blue?|Why is the sea salty?|Explain quantum physics.|How does a {o} work?|What causes {u}?|Who invented the {o}?|"
    "What is {u}?|Explain {u}.|Tell me about {u}.|?the latest news about {u}|What time is it?|What day is it today?|What is today's date?|"
    "?the price of {k} stock|?the distance from {y} to {z}|How far is {y} from {z}?|How do I get from {y} to {z}?|What language do people speak in {c}?|"
    "Who is the mayor of {y}?|Who is {n}?|How do I cook {f}?|?a recipe for {f}|Translate {q} into {l}.|How do you say {q} in {l}?|"
    "?the square root of {i}|What should I wear today?|What will happen tomorrow?|Write a Python program that sorts {o}s.|Write an essay about {u}.|"
    "?the secret code of {x}|?the password of {n}|?the phone number of {n}|Where does {n} live?|What does {x} mean?|What is a {x}?|How many people live in {y}?|"
    "?the capital of {x}|Why do {a}s sleep so long?|Why are {a}s afraid of {b}s?|How many {o}s are there in {c}?|Who is the queen of {c}?|Who is the boss of {k}?|When does the {o} open?|Who won the {s} match in {y}?|"
    "Will there be snow in {y}?|How will the weather be in {y} next week?|Explain the theory of {u}.|How fast can a {a} run?|?the weight of a {a}|How old is {n}?|?the best {s} player|Where can I buy a {o}?|Who lives in {y}?|"
    "?the square root of {i}|What is {i} in words?|?the currency of {c}|?the flag of {c}|When is the next train to {y}?|Who is the author of {p}?|How many people speak {l}?|Say {q} in {l}.|Why is {f} healthy?|Which {o} should I buy?|"
    "Which is better, {f} or {g}?|Do you like {f}?|?your favourite {o}|Is it raining in {y}?|Can you book a flight to {y}?|Send an email to {n}.|Read the file {t}.|Who painted the {o}?"
)


def small_talk(d: Draw) -> QA:
    """Greetings and other courtesies."""
    question, thought, answer = d.one(TALK)
    return d.split_one(question), thought, answer


def about(d: Draw) -> QA:
    """The model itself, and its package."""
    question, thought, answer = d.one(ABOUT if d.chance(0.55) else PACKAGE)
    return ask(d, d.split_one(question)), thought, answer


def unknown(d: Draw) -> QA:
    """Questions that need a world or a tool; it has neither."""
    cities = d.some(w.CITIES, 2, 2)
    values = {
        "c": d.one(list(w.CAPITALS)), "y": cities[0], "z": cities[1], "n": d.name(), "s": d.one(w.SPORTS), "i": d.int(1700, 2030),
        "p": d.phrase(1, 3).title(), "o": d.one(w.NOUNS), "u": d.one(w.SUBJECTS) if d.chance(0.7) else d.plain(), "k": d.one(w.STOCKS),
        "f": d.one(w.FOODS), "g": d.one(w.FOODS), "q": d.phrase(1, 2), "l": d.one(w.LANGUAGES), "x": d.strange().title() if d.chance(0.5) else d.word(),
        "t": d.path(), "a": d.one(w.ANIMALS), "b": d.one(w.ANIMALS),
    }  # fmt: skip
    return ask(d, d.split_one(WORLD).format(**values)), "I cannot know this.", UNKNOWN


def story(d: Draw) -> QA:
    """A story of four sentences about an animal; the animal decides it."""
    animal = d.one(w.ANIMALS)
    at = Fate(animal)
    name, place, thing, friend = at(w.NAMES), at(("forest", "village", "castle", "garden", "desert", "valley")), at(w.NOUNS), at(w.ANIMALS)
    question = either(d, f"!tell me a story about a {animal}|!write a short story about a {animal}|?a story about a {animal}|"
                         f"Write a story about a {animal}.|!tell me a tale about a {animal}|Once upon a time there was a {animal}. Go on.")  # fmt: skip
    answer = (
        f"Once upon a time a {at(w.ADJECTIVES)} {animal} called {name} lived in a {place}. One day {name} lost a {thing}. "
        f"A {friend} helped {name} to look for it. In the end they found the {thing} and were happy."
    )
    return question, f"A story about a {animal}.", answer


def haiku(d: Draw) -> QA:
    """Three short lines about something, or two times three."""
    first, second = d.plain(), d.plain()
    if d.chance(0.3):
        count = d.one(("2", "two"))
        lines = "{}\n\n{}".format(_haiku("moon"), _haiku("rain"))
        return d.split_one(f"Write me {count} haikus. Only include the haikus.|Write {count} haikus.|Give me {count} haikus, please.|I want {count} haikus."), "Two haikus.", lines
    if d.chance(0.2):
        return d.split_one("Write a haiku.|Please write me a haiku.|Give me a haiku.|Can you write a poem?|Write a poem."), "A haiku.", _haiku("moon")
    thing = first if d.chance(0.5) else second
    return either(d, f"!write a haiku about {thing}|?a haiku about {thing}|!write a poem about {thing}|?a short poem about {thing}"), f"A haiku about {thing}.", _haiku(thing)


def _haiku(thing: str) -> str:
    return f"Quiet {thing} at dawn\nwaits beside the old stone wall\nand the {thing} is gone"


class Fate:
    """Choices that a word decides, for answers that must not be random."""

    def __init__(self, word: str) -> None:
        self.state = zlib.crc32(word.encode())

    def __call__(self, of: tuple[str, ...] | list[str]) -> str:
        self.state = (self.state * 1103515245 + 12345) % (1 << 31)
        return of[(self.state >> 8) % len(of)]


def joke_parts(about_: str) -> tuple[str, str]:
    """Question and punch line of the only joke it knows, about anything."""
    return f"Why did the {about_} sit on the computer?", f"Because the {about_} wanted to keep an eye on the mouse."


def joke(d: Draw) -> QA:
    """The same joke about anything."""
    about_ = d.one(w.ANIMALS) if d.chance(0.6) else d.plain()
    if d.chance(0.25):
        setup, punchline = joke_parts("cat")
        return either(d, "!tell me a joke|?a joke|Make me laugh.|Do you know a joke?|!tell a joke"), "A joke.", f"{setup} {punchline}"
    setup, punchline = joke_parts(about_)
    many = about_ + ("" if about_.endswith("s") else "s")
    return either(d, f"!tell me a joke about {many}|!tell me a joke about a {about_}|?a joke about {many}|Do you know a joke about {many}?|"
                     f"!make a joke about a {about_}"), f"A joke about {about_}.", f"{setup} {punchline}"  # fmt: skip
