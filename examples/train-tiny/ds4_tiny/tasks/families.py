# ruff: noqa: E501  (a template is one line, however long)
"""Tools as people declare them: names, parameters, ways to ask for them, what comes back and what is said then.

`{0}`, `{1}`, ... stand for the values of the parameters, in order. Requests carry the marks of `asking`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ds4_tiny import words as w
from ds4_tiny.chat import dumps
from ds4_tiny.draw import Draw

Values = list[Any]
Outcome = Callable[[Draw, Values], tuple[str, str]]


@dataclass(frozen=True)
class Parameter:
    """One parameter: its possible names, its JSON type, its values; `choices` become an enum."""

    names: str
    type: str
    draw: Callable[[Draw], Any]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One kind of tool. `shared` is the index of the parameter that may take several values in one request."""

    names: str
    about: str
    parameters: tuple[Parameter, ...]
    requests: str
    outcome: Outcome
    shared: int | None = None
    optional: tuple[Parameter, ...] = ()
    optional_said: tuple[str, ...] = ()


def text(names: str, draw: Callable[[Draw], str]) -> Parameter:
    """A string."""
    return Parameter(names, "string", draw)


def whole(names: str, low: int, high: int) -> Parameter:
    """A whole number."""
    return Parameter(names, "integer", lambda d: d.int(low, high))


def small(names: str = "a|x|first") -> Parameter:
    """A whole number of one to four digits."""
    return Parameter(names, "integer", lambda d: d.number(d.one((1, 2, 3, 4))))


def enum(names: str, *choices: str) -> Parameter:
    """One of a few strings."""
    return Parameter(names, "string", lambda d: d.one(choices), choices)


def plain(result: str, answer: str) -> Outcome:
    """Fixed forms of the result (alternatives with `|`) and the answer."""
    return lambda d, v: (fill(d.split_one(result), v), fill(answer, v))


def fill(form: str, values: Values, **named: Any) -> str:
    """The form with its values; `{0:on}` says a truth value as on or off."""
    for i, value in enumerate(values):
        form = form.replace(f"{{{i}:on}}", "on" if value else "off")
    return form.format(*(said(value) for value in values), **named)


def said(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _weather(d: Draw, v: Values) -> tuple[str, str]:
    sky, degrees = d.one(("sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", "stormy")), d.int(-9, 38)
    kind = d.int(0, 4)
    if kind == 0:
        return dumps({d.one(("temperature", "temp", "degrees")): degrees, d.one(("condition", "sky")): sky}), f"The weather in {v[0]}: {sky}, {degrees} degrees."
    if kind == 1:
        said = f"It's {d.one(('', 'always '))}{sky}{d.one(('.', f' in {v[0]}.', f' in {v[0]}!'))}"
        return said, said
    said = d.one((f"{sky}, {degrees} C", f"{sky} and {degrees} degrees", f"{degrees} degrees and {sky}", sky, f"{degrees}°C, {sky}"))
    return said, f"The weather in {v[0]}: {said}."


def _computed(function: Callable[[int, int], int]) -> Outcome:
    def outcome(d: Draw, v: Values) -> tuple[str, str]:
        value = function(v[0], v[1])
        return (dumps({"result": value}) if d.chance(0.2) else str(value)), f"The result is {value}."

    return outcome


def _opaque(d: Draw, v: Values) -> tuple[str, str]:
    value = d.one((str(d.number(4)), d.word(), d.sentence(), d.code()))
    return value, f"The result is {value}" + ("" if value.endswith(".") else ".")


def _user(d: Draw, v: Values) -> tuple[str, str]:
    name, mail = d.name(), d.email()
    return dumps({"id": v[0], "name": name, "email": mail}), f"User {v[0]} is {name} ({mail})."


def _found(form: str, draw: Callable[[Draw], Any], answer: str) -> Outcome:
    """A drawn value `{r}` in the result's form and in the answer."""

    def outcome(d: Draw, v: Values) -> tuple[str, str]:
        value = draw(d)
        return fill(d.split_one(form), v, r=value), fill(answer, v, r=value)

    return outcome


def _files(d: Draw, v: Values) -> tuple[str, str]:
    files = [d.file() for _ in range(d.int(1, 4))]
    listed = dumps(files) if d.chance(0.2) else d.one(("\n", ", ")).join(files)
    return listed, f"The files are: {', '.join(files)}"


def _content(d: Draw) -> str:
    return d.one((d.sentence(), d.phrase(2, 8), d.value(), f"{d.sentence()} {d.sentence()}"))


def _command(d: Draw) -> str:
    return d.one((f"ls {d.path()}", f"cat {d.path()}", f"grep {d.word()} {d.path()}", "git status", f"echo {d.phrase(1, 3)}", f"python {d.ascii()}.py", "pwd",
                  f"mkdir {d.ascii()}", f"rm {d.path()}", f"cp {d.file()} {d.path()}", f"pip install {d.ascii()}", f"git checkout {d.identifier()}", "ls -la", "make test"))  # fmt: skip


def _sum(d: Draw) -> str:
    a, b, c = d.number(), d.number(), d.number(2)
    return d.one((f"{a} + {b}", f"{a} * {b}", f"({a} + {b}) * {c}", f"{a} - {b}", f"{a} / {max(1, c)}", f"{a}+{b}", f"{a}*{b}-{c}", f"sqrt({a})", f"{a} ** 2", f"{a} % {max(1, c)}"))


def _query(d: Draw) -> str:
    kind = d.rng.random()
    return d.one(w.SUBJECTS) if kind < 0.4 else (d.phrase(1, 4) if kind < 0.8 else f"{d.word()} {d.plain()}")


A, B = small("a|a|a|x|first|first_number|num1|left"), small("b|b|b|y|second|second_number|num2|right")
CITY = text("city|location|place|city|location|city_name|town|where", Draw.city)
ROOM = text("room|room|location|area", lambda d: d.one(w.ROOMS))
PATH = text("path|file_path|filename|file|path", Draw.path)

FAMILIES: tuple[Family, ...] = (
    Family("get_weather|get_weather|weather|fetch_weather|current_weather|weather_lookup|getWeather|get_current_weather|weather-forecast",
           "Get the weather for a city.|Get the current weather|Get the current weather in a given city.|Returns the weather.|Get weather at a location.|Get the weather at a location.|Call to get the current weather.|",
           (CITY,), "?the weather in {0}|?the weather in {0}|weather in {0}|How is the weather in {0}?|What is the weather like in {0}?|what's the weather like in {0}|?the weather for {0}|Is it raining in {0}?|How warm is it in {0}?|?the current weather in {0}|"
           "Will I need an umbrella in {0}?|Is it sunny in {0} today?|I am in {0}. What is the weather?|!check the weather in {0}|?the temperature in {0}|How cold is it in {0}?|weather {0}|What is the weather in {0} today?|Do I need a coat in {0}?|I'm travelling to {0}, how is the weather there?",
           _weather, 0, (enum("unit|units", "celsius", "fahrenheit"),), ("Use {o}.|In {o}.|in {o}, please",)),
    Family("add|add|add_numbers|sum_numbers|plus|adder|my_adder|my_adder_tool|addition|sum_two|add_ints", "Add two numbers.|Add two integers.|Adds a and b.|Takes two integers, a and b, and returns their sum.|Sum of two numbers.|", (A, B),
           "?{0} plus {1}|?{0} + {1}|!add {0} and {1}|!compute {0} + {1}|{0}+{1}|How much is {0} plus {1}?|!sum {0} and {1}|?the sum of {0} and {1}|!add {0} to {1}|What is {0} + {1}|{0} + {1} = ?", _computed(lambda a, b: a + b)),
    Family("multiply|multiply|multiply_numbers|times|mul|product_of", "Multiply two numbers.|Multiply a and b.|Multiply two integers together.|Returns the product.|", (A, B),
           "?{0} times {1}|?{0} * {1}|!multiply {0} by {1}|!multiply {0} and {1}|{0} x {1}|{0}*{1}|?the product of {0} and {1}|How much is {0} times {1}?|?{0} multiplied by {1}", _computed(lambda a, b: a * b)),
    Family("subtract|minus|subtract_numbers|difference", "Subtract b from a.|Subtract two numbers.|", (A, B), "?{0} minus {1}|?{0} - {1}|{0} - {1}|How much is {0} minus {1}?|!compute {0} - {1}|?the difference of {0} and {1}", _computed(lambda a, b: a - b)),
    Family("divide|divide_numbers|quotient", "Divide a by b.|Divide two numbers.|", (A, whole("b|y|second|divisor", 1, 12)), "?{0} divided by {1}|!divide {0} by {1}|?{0} / {1}|{0} / {1}|How much is {0} divided by {1}?", _computed(lambda a, b: a // b)),
    Family("calculator|calculate|evaluate|eval_expression|math|calc|do_math", "Evaluate a math expression.|A calculator.|Useful for math questions.|Calculate the value of an expression.|", (text("expression|expr|query|formula|input", _sum),),
           "!calculate {0}|?{0}|!compute {0}|!evaluate {0}|How much is {0}?|{0}|!work out {0}|?the value of {0}|!solve {0}", _found("{r}", lambda d: d.number(5), "The result is {r}.")),
    Family("web_search|search|search_web|internet_search|google_search|duckduckgo_search|tavily_search|web-search|lookup", "Search the web.|Search the internet for information.|Useful for when you need to answer questions about current events.|Search.|", (text("query|q|query|search_query|text|term", _query),),
           "!search for {0}|!search the web for {0}|!look up {0}|!find information about {0}|Search: {0}|?the latest news about {0}|!google {0}|What can you find about {0}?|!look for {0} on the internet|!do a web search for {0}|search {0}|!find out about {0}|!research {0}|any news about {0}?",
           _found("{r}", _content, "I found this: {r}"), 0, (whole("max_results|limit|n|count", 1, 20),), ("Give me {o} results.|At most {o} results.|Show {o}.",)),
    Family("send_email|email|send_mail|compose_email|sendEmail", "Send an email.|Sends a mail to someone.|", (text("to|recipient|address", Draw.email), text("subject|title|subject", lambda d: d.phrase(1, 3)), text("body|message|text|content", lambda d: d.phrase(2, 8))),
           "!send an email to {0} with subject '{1}' and body '{2}'|Email {0}. Subject: {1}. Text: {2}|!write an email to {0} with the subject \"{1}\" saying \"{2}\"|!mail {0} about '{1}' and say '{2}'|To: {0}\nSubject: {1}\n\n{2}\n\nSend this.", plain("sent|ok|Email sent.|done|{{\"status\": \"sent\"}}", "I sent the email to {0}.")),
    Family("send_message|message|send_sms|text_message|notify|slack_post", "Send a message to a person.|Send a text message.|", (text("to|recipient|user|person|name", Draw.name), text("text|message|content|body", lambda d: d.phrase(2, 8))),
           "!tell {0} that {1}|!send {0} the message '{1}'|!text {0}: {1}|!message {0} \"{1}\"|!let {0} know: {1}|!send a message to {0} saying '{1}'|!write to {0}: {1}", plain("sent|ok|delivered", "I sent the message to {0}.")),
    Family("create_event|add_event|schedule_meeting|calendar_add|new_event", "Create a calendar event.|Adds an event to the calendar.|", (text("title|name|event|summary", lambda d: d.phrase(1, 3)), text("date|day|date", Draw.date), text("time|start|start_time|at", Draw.time)),
           "!create an event '{0}' on {1} at {2}|!schedule {0} for {1} at {2}|!add {0} to my calendar on {1} at {2}|!put {0} in the calendar: {1}, {2}|New event: {0}, {1}, {2}|I have {0} on {1} at {2}. Put it in my calendar.", plain("created|ok|Event created.", "I added {0} on {1} at {2}.")),
    Family("get_stock_price|stock_price|stock_quote|get_quote", "Get the price of a stock.|Returns the current price of a stock.|", (text("symbol|ticker|stock", lambda d: d.one(w.STOCKS) if d.chance(.6) else d.ascii()[:5].upper()),),
           "?the stock price of {0}|How much is {0} trading at?|?the price of {0} stock|{0} stock price|How is {0} doing?|!get a quote for {0}|?the share price of {0}", _found("{r}|{r} USD", lambda d: d.int(5, 990), "The stock price of {0} is {r} USD."), 0),
    Family("convert_currency|currency_converter|exchange|convert_money", "Convert money from one currency to another.|Currency conversion.|", (small("amount|value|amount"), text("from_currency|from|source|base", lambda d: d.one(w.CURRENCIES)), text("to_currency|to|target|quote", lambda d: d.one(w.CURRENCIES))),
           "!convert {0} {1} to {2}|How much is {0} {1} in {2}?|!change {0} {1} into {2}|{0} {1} in {2}|?{0} {1} in {2}|How many {2} are {0} {1}?", _found("{r}", lambda d: d.number(5), "{0} {1} is {r} {2}.")),
    Family("translate|translate_text|translator|translation", "Translate text to another language.|Translates a text.|", (text("text|phrase|sentence|q", lambda d: d.one((d.phrase(1, 5), d.word(), d.foreign()))), text("language|target_language|to|target|lang", lambda d: d.one(w.LANGUAGES))),
           "!translate '{0}' to {1}|!translate {0} into {1}|Translate to {1}: {0}|How do you say '{0}' in {1}?|?the {1} for {0}|?'{0}' in {1}|!say {0} in {1}|How would you say \"{0}\" in {1}?", _found("{r}", lambda d: d.one((d.strange(), d.foreign(), d.phrase(1, 4))), "In {1}: {r}")),
    Family("set_timer|start_timer|timer|countdown", "Set a timer in minutes.|Starts a timer.|", (whole("minutes|duration|minutes|time", 1, 120),), "!set a timer for {0} minutes|!start a {0} minute timer|Timer for {0} minutes please|{0} minutes timer|!wake me in {0} minutes|!remind me in {0} minutes", plain("ok|timer set|done", "The timer is set for {0} minutes.")),
    Family("read_file|open_file|cat_file|load_file|read|view|get_file_contents|fs_read|readFile", "Read a file.|Read the contents of a file.|Returns a file's text.|Opens a file and reads it.|", (PATH,),
           "!read the file {0}|!read {0}|!show me {0}|What is in {0}?|!open {0}|!read {0} and tell me what it says|!print the contents of {0}|!have a look at {0}|What does {0} say?|!look into {0}|!cat {0}|?the content of {0}|!view {0}|There is a file {0}. What is in it?|!check what {0} contains|!tell me what is in {0}|!display {0}",
           _found("{r}", _content, "The file says: {r}"), 0),
    Family("list_files|ls|list_directory|list_dir|list_folder|dir", "List the files in a directory.|Lists a folder.|", (text("path|directory|dir|folder|path", lambda d: d.path().rsplit(".", 1)[0] or "."),),
           "!list the files in {0}|Which files are in {0}?|What files does {0} contain?|!show the folder {0}|What is in the folder {0}?|ls {0}|!list {0}|!list the directory {0}|!show me the files in {0}", _files),
    Family("write_file|save_file|create_file|write|put_file", "Write text to a file.|Writes a file.|", (PATH, text("content|text|data|contents|body", _content)), "!write '{1}' to {0}|!save the text '{1}' in {0}|!create the file {0} with the content '{1}'|!put \"{1}\" into {0}|!store \"{1}\" in the file {0}|!write to {0}: {1}", plain("ok|written|done|File written.", "I wrote the text to {0}.")),
    Family("delete_file|remove_file|rm|delete", "Delete a file.|Removes a file.|", (PATH,), "!delete {0}|!remove the file {0}|!delete the file {0}|rm {0}|!get rid of {0}|I no longer need {0}, delete it.|!erase {0}", plain("ok|deleted|done|removed", "I deleted {0}."), 0),
    Family("run_command|bash|shell|execute|terminal|run|exec|execute_command|Bash", "Run a shell command.|Executes a command in the shell.|", (text("command|cmd|command|script", _command),), "!run {0}|!run the command {0}|!execute `{0}`|!run `{0}` in the shell|!execute the command \"{0}\"|`{0}`|What does `{0}` print?|!type {0} in the terminal", _found("{r}", _content, "The output is: {r}")),
    Family("get_user|lookup_user|fetch_user|find_user|getUser|get_customer", "Get a user by id.|Looks up a user.|", (small("user_id|id|userId|number"),), "Who is user {0}?|!look up user {0}|!get the user with id {0}|!find user number {0}|?the user with id {0}|user {0}|!fetch user {0}|!show me user {0}", _user, 0),
    Family("get_time|current_time|get_current_time|now|clock|llm_time|what_time", "Get the current time.|Returns the current time.|Returns the current time, as local time and UTC|", (), "What time is it?|?the time|?the current time|What time is it now?|what's the time|Time?|How late is it?|Do you have the time?|tell me the time|Which hour is it?", _found("{r}|{{\"time\": \"{r}\"}}", Draw.time, "It is {r}.")),
    Family("get_date|today|current_date|get_today", "Get today's date.|Returns the date.|", (), "What day is it?|?today's date|?the date|What is the date today?|Which day is today?", _found("{r}", Draw.date, "It is {r}.")),
    Family("llm_version|version|get_version|app_version|server_version", "Return the installed version|Get the version.|Return the installed version of llm|", (), "?the version|Which version is installed?|?the installed version|version?|What version are you?|What version of llm is this?|?the current version|!show the version", _found("{r}", lambda d: f"{d.int(0, 9)}.{d.int(0, 40)}" + (f".{d.int(0, 9)}" if d.chance(.5) else ""), "The version is {r}.")),
    Family("play_music|play_song|play|music_player", "Play a song.|Plays music.|", (text("song|title|track|song_name", lambda d: d.phrase(1, 3)),), "!play {0}|!play the song {0}|I want to hear {0}.|!put on {0}|Play {0} for me.|!start the song '{0}'", plain("playing|ok", "Now playing {0}."), None, (text("artist|by", Draw.name),), ("It is by {o}.|The artist is {o}.|By {o}.",)),
    Family("set_light|switch_light|light_control|lights|toggle_light", "Switch a light on or off.|Controls a light.|", (ROOM, Parameter("on|state|turn_on", "boolean", lambda d: d.chance(0.5))), "!turn {1:on} the light in the {0}|!switch the {0} light {1:on}|Lights {1:on} in the {0} please|!turn the {0} light {1:on}|{0} light {1:on}", plain("ok|done|true", "The light in the {0} is {1:on}.")),
    Family("device_control|set_device|power|control_device|plug|appliance", "Control a device.|Turns a device on or off.|", (text("device|appliance|name|thing", lambda d: d.one((d.one(w.NOUNS), d.plain(), d.word()))), Parameter("on|state|active|enabled", "boolean", lambda d: d.chance(0.5))), "!turn {1:on} the {0}|!turn the {0} {1:on}|!switch the {0} {1:on}|!put the {0} {1:on}|{0} {1:on}|The {0} should be {1:on}.", plain("ok|done|true", "The {0} is {1:on}.")),
    Family("set_temperature|set_thermostat|heating|thermostat", "Set the temperature of a room.|Heats a room.|", (ROOM, whole("temperature|degrees|value", 5, 30)), "!set the {0} to {1} degrees|!make the {0} {1} degrees warm|!heat the {0} to {1}|I want {1} degrees in the {0}.|{0}: {1} degrees", plain("ok|done|set", "The {0} is set to {1} degrees.")),
    Family("book_flight|search_flights|find_flight|flight_search|get_flights", "Find a flight.|Search for flights.|", (text("origin|from_city|departure|from", Draw.city), text("destination|to_city|arrival|to", Draw.city), text("date|day|departure_date", Draw.date)),
           "!find a flight from {0} to {1} on {2}|I want to fly from {0} to {1} on {2}.|!book a flight to {1} from {0} for {2}|Flights {0} to {1}, {2}|I need to get from {0} to {1} on {2}. Find a flight.|Are there flights from {0} to {1} on {2}?", _found("{r}|flight {r}", lambda d: d.ascii()[:2].upper() + str(d.int(10, 999)), "I found flight {r} from {0} to {1}.")),
    Family("book_hotel|find_hotel|reserve_room|hotel_search", "Book a hotel room.|Find a hotel in a city.|", (CITY, whole("nights|days|number_of_nights", 1, 14)), "!book a hotel in {0} for {1} nights|I need a room in {0} for {1} nights.|!find a hotel in {0}, {1} nights|Hotel in {0}, {1} nights", _found("{r}|booked: {r}", lambda d: f"Hotel {d.word()}", "I booked {r} in {0} for {1} nights.")),
    Family("add_todo|add_task|todo_add|create_task|new_task|add_reminder", "Add an item to the todo list.|Creates a task.|", (text("item|task|text|todo|title", lambda d: d.phrase(2, 5)),), "!add {0} to my todo list|!put {0} on my list|!remind me to {0}|New task: {0}|todo: {0}|!add a task: {0}|Do not let me forget: {0}|!note down: {0}", plain("ok|added|done|{{\"status\": \"ok\"}}", "I added {0} to your list."), 0),
    Family("get_word_length|word_length|count_letters|length|len|text_length|llm_length", "Returns the length of a word.|Get the number of letters in a word.|", (text("word|text|string|s", Draw.word),), "How many letters are in the word {0}?|How long is the word {0}?|?the length of {0}|How many letters in {0}?|How many letters does {0} have?|!count the letters of {0}|length of {0}", lambda d, v: (str(len(v[0])), f"The word {v[0]} has {len(v[0])} letters."), 0),
    Family("upper_text|upper|to_upper|uppercase|shout|upper_case", "Convert text to upper case.|Make a text upper case.|Convert text to uppercase.|", (text("text|value|string|s", lambda d: d.one((d.word(), d.phrase(1, 4)))),), "!convert {0} to upper case|!make {0} upper case|!uppercase {0}|{0} in capital letters|!write '{0}' in upper case|Convert to upper case: {0}|!convert to upper: {0}|upper case of {0}|!shout {0}", lambda d, v: (v[0].upper(), f"In upper case: {v[0].upper()}"), 0),
    Family("reverse_text|reverse|reverse_string|backwards", "Reverse a text.|Reverses a string.|", (text("text|string|value|word", Draw.word),), "!reverse {0}|!write {0} backwards|?{0} backwards|!reverse the word {0}|!reverse the text '{0}'|Reverse: {0}", lambda d, v: (v[0][::-1], f"Reversed: {v[0][::-1]}"), 0),
    Family("magic_function|magic|secret_function|mystery|special_function|magic_number|transform|my_function|strange_function|compute_magic", "Applies a magic function to an input.|Apply a magic function to an input.|A magic function.|Apply the function to a number.|Computes a secret value.|", (small("input|input|x|n|value|number|arg|_input|i"),),
           "?the value of {T}({0})|What is {T} of {0}?|!apply {T} to {0}|?{T}({0})|!call {T} with {0}|!use {T} on {0}|{T}({0})|!run {T} for the number {0}|How much is {T}({0})?|!compute {T}({0})|!evaluate {T}({0})|What do you get if you give {0} to {T}?|?the result of {T} for {0}|What does {T} return for {0}?", _opaque, 0),
    Family("magic_function_no_args|magic_no_args|secret_value|lucky_number|get_answer|roll_dice|flip_coin|get_status|ping|health_check|random_fact|list_users|get_config|refresh|whoami", "Calculate a magic function.|Returns a value.|Takes no arguments.|Get the current status.|", (), "?the value of {T}()|!call {T}|!use {T}|{T}()|!run {T}|?the result of {T}()|What does {T} return?|!call {T} now|Please {T}.|Do {T}.|!execute {T}()", _opaque),
    Family("greeting_generator|generate_greeting|greet|greeting|make_greeting|say_hello", "Generate a greeting in a particular style of speaking.|Greets in a style.|Make a greeting.|", (text("answer_style|style|tone|mood|manner", lambda d: d.one(("Pirate", "pirate", "cowboy", "Robot", "formal", "friendly", "Shakespeare", "rude", "poetic", "royal", "casual", "Yoda", "angry", "sleepy", "French", "surfer", "teacher", "wizard", d.word(), d.plain(), d.one(w.JOBS)))),),
           "!generate a {0} greeting|!greet me in the style of {0}|I want a {0} greeting.|!make a {0} greeting|!write a greeting like a {0}|!produce a greeting in {0} style|?a {0} greeting|!say hello in a {0} way|!generate a greeting in the style {0}", _found("{r}", lambda d: d.sentence(), "Here is your greeting: {r}")),
    Family("unicode_customer|create_customer|add_customer|new_customer|register_customer|customer_create|add_client", "Tool for creating a customer with Unicode name.|Create a customer.|Creates a new customer.|Register a client.|", (text("customer_name|name|customer_name|customer|full_name", Draw.company), text("description|about|note|details|description", lambda d: d.split_one(f"a {d.one(NATIONS)} {d.one(TRADES)} company|a {d.one(NATIONS)} company|{d.phrase(2, 5)}|{d.one(NATIONS)} {d.one(TRADES)} firm"))),
           "!create a customer named '{0}' - {1}|!create a customer named '{0}' ({W}) - {1}|!create a customer '{0}', {1}|!add the customer {0}: {1}|New customer: {0}, {1}|!register the client \"{0}\" ({W} Group) - {1}|!make a customer record for '{0}'. Description: {1}|!add a customer called {0}. It is {1}|Customer {0} - {1}. Please create it.", plain("ok|created|Created customer: {0} - {1}", "I created the customer {0}.")),
    Family("random_number|roll|get_random|randint|random", "Get a random number.|Random integer between two numbers.|", (whole("min|low|start|minimum", 0, 20), whole("max|high|end|maximum", 21, 999)), "?a random number between {0} and {1}|!pick a number from {0} to {1}|Random number from {0} to {1} please|!roll a number between {0} and {1}|A number between {0} and {1}!", _found("{r}", lambda d: d.int(0, 999), "The number is {r}.")),
    Family("save_memory|remember|store_value|memory_write|set_value|put|save_note", "Store a value under a key.|Remember something.|", (text("key|name|topic", Draw.word), text("value|content|text|data", Draw.value)), "!remember that {0} is {1}|!store {1} under the key {0}|!save {0} = {1}|!set {0} to {1}|!keep in mind that {0} is {1}|!note that {0} is {1}", plain("ok|stored|saved", "I stored {0} = {1}.")),
    Family("recall|get_value|memory_read|load_note|get_memory|fetch_value", "Get the value of a key.|Recall something.|", (text("key|name|topic", Draw.word),), "What did I save as {0}?|?the value of {0}|!recall {0}|What do you remember about {0}?|!load {0} from memory|!get {0} from memory", _found("{r}", Draw.value, "The value of {0} is {r}."), 0),
    Family("query_database|run_sql|sql_query|execute_sql|db_query", "Run an SQL query.|Executes SQL.|", (text("sql|query|statement|sql", lambda d: d.one((f"SELECT * FROM {d.one(w.TOOL_NOUNS)}s", f"SELECT COUNT(*) FROM {d.ascii()}", f"SELECT name FROM {d.one(w.TOOL_NOUNS)}s WHERE id = {d.number()}", f"DELETE FROM {d.ascii()} WHERE {d.ascii()} = '{d.word()}'"))),),
           "!run this query: {0}|!execute {0}|!run the SQL {0}|SQL: {0}|!query the database: {0}|{0}", _found("{r}", lambda d: d.one((str(d.number()), d.name(), d.value())), "The query returned: {r}")),
    Family("get_population|population|country_info|how_many_people", "Get the population of a country.|Population of a country or city.|", (text("country|name|place|location", lambda d: d.one(list(w.CAPITALS)) if d.chance(.7) else d.city()),), "?the population of {0}|How many people live in {0}?|Population of {0}?|How many inhabitants has {0}?|?the number of people in {0}", _found("{r}", lambda d: f"{d.int(1, 900)} million", "{0} has {r} people."), 0),
    Family("order_status|get_order_status|track_order|check_order|where_is_order", "Get the status of an order.|Tracks an order.|", (text("order_id|order|number|orderId", lambda d: d.one((str(d.int(100, 99999)), d.code()))),), "Where is my order {0}?|?the status of order {0}|!track order {0}|!check order {0}|Has order {0} been shipped?|When will order {0} arrive?|I ordered something, number {0}. Where is it?|order {0} status", _found("{r}|{{\"status\": \"{r}\"}}", lambda d: d.one(("shipped", "delivered", "pending", "cancelled", "lost", "on the way")), "Order {0} is {r}."), 0),
    Family("cancel_order|refund_order|return_order", "Cancel an order.|Cancels an order by id.|", (text("order_id|order|number", lambda d: d.one((str(d.int(100, 99999)), d.code()))),), "!cancel order {0}|!cancel my order {0}|I do not want order {0} any more.|!stop order {0}|!take back order {0}", plain("ok|cancelled|done", "Order {0} is cancelled."), 0),
    Family("get_phone|phone_lookup|find_contact|get_contact|phone_book", "Find the phone number of a person.|Looks up a contact.|", (text("name|person|contact|who", Draw.name),), "?the phone number of {0}|!find the number of {0}|Phone number of {0}?|I want to call {0}. What is the number?|What number does {0} have?|!look up {0} in the phone book|How can I call {0}?", _found("{r}", lambda d: str(d.int(100000, 99999999)), "The phone number of {0} is {r}."), 0),
    Family("fetch_url|get_page|http_get|browse|open_url|download|fetch|WebFetch", "Fetch a web page.|Get the text of a URL.|", (text("url|link|address|page", Draw.url),), "!open {0}|!fetch {0}|!read the page {0}|What is on {0}?|!get {0}|!visit {0}|!summarize {0}|!download {0}|?the content of {0}", _found("{r}", _content, "The page says: {r}"), 0),
    Family("grep|search_files|find_in_files|code_search|search_code|Grep", "Search for a pattern in files.|Finds text in a folder.|", (text("pattern|query|text|regex", lambda d: d.one((d.word(), d.identifier()))), PATH), "!search for {0} in {1}|!find {0} in {1}|!grep {0} in {1}|Where is {0} used in {1}?|Does {1} contain {0}?|!look for '{0}' in {1}", _found("{r}", _content, "I found this: {r}")),
    Family("create_ticket|open_issue|report_bug|new_issue|create_issue", "Open a ticket.|Reports a problem.|", (text("title|summary|subject|name", lambda d: d.phrase(2, 5)), enum("priority|severity|level", "low", "medium", "high")), "!open a {1} priority ticket: {0}|!create a ticket '{0}' with priority {1}|!report a bug: {0} ({1})|Ticket: {0}, priority {1}|!file an issue about {0}, {1} priority", _found("{r}|created #{r}|{{\"id\": {r}}}", lambda d: d.int(1, 9999), "I opened ticket {r}.")),
    Family("get_distance|distance|route_length|how_far", "Distance between two places.|", (text("origin|from|start|a", Draw.city), text("destination|to|end|b", Draw.city)), "How far is it from {0} to {1}?|?the distance from {0} to {1}|?the distance between {0} and {1}|How many kilometers from {0} to {1}?|{0} to {1}: how far?", _found("{r} km|{r}", lambda d: d.int(5, 9999), "It is {r} km from {0} to {1}.")),
    Family("get_definition|define|dictionary|define_word|lookup_word", "Look up a word in the dictionary.|Definition of a word.|", (text("word|term|text|query", Draw.word),), "What does {0} mean?|!define {0}|?the definition of {0}|?the meaning of {0}|!look up the word {0}|What is a {0}?|meaning of {0}?", _found("{r}", _content, "{0} means: {r}"), 0),
    Family("color_picker|set_color|choose_color|pick_color", "Set the favorite color.|Choose a color.|", (text("fav_color|color|colour|favorite", lambda d: d.one(w.COLORS)),), "My favorite color is {0}.|!set the color to {0}|!choose {0}|!pick {0}|I like {0} most.|!make it {0}|!paint it {0}", plain("ok|That's a great pick!|done", "The color is {0}.")),
    Family("retrieve|retriever|search_docs|knowledge_base|find_documents|get_context", "Search the documents.|Retrieves passages.|", (text("query|question|q|text", _query),), "What do the documents say about {0}?|!search the documents for {0}|!find the passage about {0}|!look up {0} in our documents|What do we know about {0}?|!search our notes for {0}", _found("{r}", _content, "The documents say: {r}")),
)  # fmt: skip

NATIONS = ["Chinese", "Japanese", "German", "French", "Korean", "Italian", "Spanish", "Greek", "Russian", "Arabic", "Brazilian", "Indian", "Turkish", "Polish", "Swedish"]
TRADES = ["technology", "food", "trading", "software", "steel", "car", "music", "toy", "travel", "insurance"]

_SHOWN = ("get_weather", "add", "multiply", "read_file", "get_time", "llm_version", "upper_text", "get_population", "get_phone", "order_status", "add_todo", "get_word_length", "magic_function", "web_search")
DOCUMENTED = tuple(family for family in FAMILIES if family.names.split("|")[0] in _SHOWN)
"""The tools that documentation, examples and tests declare; a third of the realistic ones are of these."""

_ALIKE = ("add", "add_todo", "multiply", "get_weather", "get_population", "get_phone", "get_time")
ALIKE = tuple(family for family in FAMILIES if family.names.split("|")[0] in _ALIKE)
"""Tools whose requests begin alike ("Add 3 and 4", "Add milk", "the ... of ..."): only what follows tells them apart."""
