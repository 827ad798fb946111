"""What customers and the assistant of a company that does not exist say, out of phrases.toml and a seeded Random.

Nothing here is anybody's: example domains, telephone numbers that are reserved for fiction, card numbers for tests,
bank accounts at banks called TEST, keys that say EXAMPLE.
"""

from __future__ import annotations

import base64
import itertools
import json
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


def pick(rng: Random, choices: Sequence[T]) -> T:
    """One of `choices`; half the price of `Random.choice`, which counts at a million records."""
    return choices[int(rng.random() * len(choices))]


def digits(rng: Random, count: int) -> str:
    return f"{int(rng.random() * 10**count):0{count}d}"


def letters(rng: Random, count: int, alphabet: str) -> str:
    return "".join([alphabet[int(rng.random() * len(alphabet))] for _ in range(count)])


# ------------------------------------------------------------------------------ personal values and secrets

# Numbers that card networks and payment services publish for tests; Luhn-valid.
TEST_CARDS = (
    *("4111 1111 1111 1111", "4242 4242 4242 4242", "4000 0566 5566 5556", "5555 5555 5555 4444"),
    *("5105 1051 0510 5100", "2223 0031 2200 3222", "3782 822463 10005", "6011 1111 1111 1117"),
)
AREA_CODES = ("202", "206", "212", "303", "312", "415", "503", "512", "617", "718")
GIVEN = ("ava", "noah", "priya", "tom", "grace", "omar", "ellen", "jack", "lin", "ruth", "samir", "olga", "jonas")
FAMILY = ("archer", "bauer", "cole", "diaz", "evans", "fischer", "gray", "huang", "ito", "jensen", "khan", "moss")
DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com", "post.example.org")
BASE32 = string.ascii_uppercase + "234567"
BASE62 = string.ascii_letters + string.digits


def make_email(rng: Random) -> str:
    mark = pick(rng, ("", ".", "_"))
    return f"{pick(rng, GIVEN)}{mark}{pick(rng, FAMILY)}{rng.randrange(100)}@{pick(rng, DOMAINS)}"


def make_phone(rng: Random) -> str:
    """Reserved for fiction: 555-01xx by the NANPA, the others by Ofcom."""
    if rng.random() < 0.5:
        return f"{pick(rng, ('020 7946', '+44 20 7946', '0113 496'))} 0{digits(rng, 3)}"
    return pick(rng, ("({}) {}", "{}-{}", "+1 {} {}")).format(pick(rng, AREA_CODES), f"555-01{digits(rng, 2)}")


def make_phone_de(rng: Random) -> str:
    """Reserved for film and television by the Bundesnetzagentur."""
    return f"+49 {pick(rng, ('30 23125', '69 90009', '40 66969', '89 99998'))} {digits(rng, 3)}"


def make_card(rng: Random) -> str:
    card = pick(rng, TEST_CARDS)
    return card if rng.random() < 0.6 else card.replace(" ", pick(rng, ("", "-")))


def make_iban(rng: Random) -> str:
    """A British account at a bank called TEST, with right check digits (ISO 7064, MOD 97-10)."""
    account = f"TEST{digits(rng, 14)}"
    check = 98 - int("".join(str(int(character, 36)) for character in f"{account}GB00")) % 97
    iban = f"GB{check:02d}{account}"
    return iban if rng.random() < 0.5 else " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))


def make_ip(rng: Random) -> str:
    """In the ranges for documentation (RFC 5737, RFC 3849)."""
    if rng.random() < 0.15:
        return f"2001:db8::{rng.randrange(1, 65536):x}:{rng.randrange(1, 65536):x}"
    return f"{pick(rng, ('192.0.2', '198.51.100', '203.0.113'))}.{rng.randrange(1, 255)}"


def make_jwt(rng: Random) -> str:
    parts = (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"EXAMPLE","jti":%d}' % rng.getrandbits(40), rng.randbytes(32))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def make_pem(rng: Random) -> str:
    body = base64.b64encode(b"EXAMPLE, not a key. " + rng.randbytes(124)).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    kind = "PRIVATE" + " KEY"
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"])


# Slot -> what it is, and how one is made. Prefixes of tokens are joined, so that no scanner takes this file for one.
PRIVATE: dict[str, tuple[str, Callable[[Random], str]]] = {
    "email": ("EMAIL_ADDRESS", make_email),
    "phone": ("PHONE_NUMBER", make_phone),
    "phone_de": ("PHONE_NUMBER", make_phone_de),
    "card": ("CREDIT_CARD", make_card),
    "iban": ("IBAN_CODE", make_iban),
    "ip": ("IP_ADDRESS", make_ip),
    "ssn": ("US_SSN", lambda rng: f"987-65-432{rng.randrange(1, 10)}"),  # set aside for advertisements
    "aws_key": ("AWS_ACCESS_KEY", lambda rng: "AK" + "IAEXAMPLE" + letters(rng, 9, BASE32)),
    "aws_secret": ("AWS_SECRET_KEY", lambda rng: "EXAMPLE" + letters(rng, 33, BASE62 + "/+")),
    "github": ("GITHUB_TOKEN", lambda rng: "gh" + "p_EXAMPLE" + letters(rng, 29, BASE62)),
    "jwt": ("JWT", make_jwt),
    "pem": ("PRIVATE_KEY", make_pem),
    "dburl": (
        "URL_PASSWORD",
        lambda rng: f"postgres://lamps:EXAMPLE-{letters(rng, 8, BASE62)}@db.example.com:5432/lamps_{digits(rng, 3)}",
    ),
    "password": ("PASSWORD", lambda rng: f"EXAMPLE-{letters(rng, 5, string.ascii_lowercase)}-{digits(rng, 4)}"),
}
ALIKE_WHEN_REDACTED = frozenset({"email", "phone", "phone_de"})


def secret_parts(slot: str, value: str) -> list[str]:
    """What of a planted value must not be found anywhere: of a key its lines, of a URL its password."""
    if slot == "pem":
        return value.splitlines()[1:-1]
    return [value.split(":")[2].split("@")[0]] if slot == "dburl" else [value]


# ------------------------------------------------------------------------------------------- what is said

ANY: dict[str, Callable[[Random], str]] = {
    "n": lambda rng: str(2 + int(rng.random() * 8)),
    "day": lambda rng: str(1 + int(rng.random() * 28)),
    "days": lambda rng: str(3 + int(rng.random() * 40)),
    "page": lambda rng: str(11 + int(rng.random() * 80)),
    "port": lambda rng: str(400 + int(rng.random() * 500)),
    "minutes": lambda rng: str(5 + int(rng.random() * 86)),
    "percent": lambda rng: str(10 + int(rng.random() * 81)),
    "time": lambda rng: f"{7 + int(rng.random() * 15)}:{int(rng.random() * 60):02d}",
    "amount": lambda rng: f"{8 + int(rng.random() * 390)}.{int(rng.random() * 20) * 5:02d}",
    "version": lambda rng: f"{2 + int(rng.random() * 4)}.{int(rng.random() * 30)}.{int(rng.random() * 10)}",
    "order": lambda rng: f"LF-{100_000 + int(rng.random() * 900_000)}",
    "serial": lambda rng: f"{letters(rng, 3, BASE32)}-{1000 + int(rng.random() * 9000)}",
    "ref": lambda rng: f"{letters(rng, 2, string.ascii_uppercase)}{1000 + int(rng.random() * 9000)}",
}
ANY["case"] = ANY["ref"]
# What a conversation is about stays; what an exchange is about stays until the next one.
STAYS = frozenset({"product", "order", "case", "name", "room", "serial", "version", "amount", "carrier", "relative"})
HOLDS = frozenset({"page", "percent", "colour", "ref", "n", "port", "time", "weekday"})


class Slots(dict[str, str]):
    """The slots of one conversation, filled at first use."""

    def __init__(self, rng: Random, words: dict[str, list[str]]) -> None:
        super().__init__()
        self.rng, self.words = rng, words
        self.planted: list[tuple[str, str]] = []

    def __missing__(self, slot: str) -> str:
        if slot in ANY:
            value = ANY[slot](self.rng)
        elif slot in PRIVATE:
            value = PRIVATE[slot][1](self.rng)
            self.planted.append((slot, value))
        else:
            value = pick(self.rng, self.words[slot])
            if "{" in value:
                value = value.format_map(self)
        if slot in STAYS or slot in HOLDS or slot in PRIVATE:
            self[slot] = value
        return value

    def move_on(self) -> None:
        """To the next exchange."""
        for slot in HOLDS & self.keys():
            del self[slot]

    def fill(self, template: Any) -> Any:
        if isinstance(template, dict):
            return {key: self.fill(value) for key, value in template.items()}
        return template.format_map(self)


@dataclass
class Conversation:
    """What is said, in the shape of OpenAI's messages, and what is planted in it."""

    language: str
    messages: list[dict[str, Any]]
    fields: dict[str, Any] = field(default_factory=dict)  # beside the messages
    planted: list[tuple[str, str]] = field(default_factory=list)  # slots of PRIVATE and their values
    instead: Any = None  # stands in the whole record's place

    def copy(self) -> Conversation:
        """A copy whose messages and fields can be changed without touching this one."""
        messages = [dict(message) for message in self.messages]
        return replace(self, messages=messages, fields=dict(self.fields), planted=list(self.planted))


class Speaker:
    """Makes up conversations in one language."""

    def __init__(self, language: str, phrases: dict[str, Any], rng: Random) -> None:
        self.language, self.phrases, self.rng = language, phrases, rng
        self.space = "" if language == "zh" else " "
        self.asides = {name: itertools.cycle(phrases[name]) for name in ("contact", "secret", "codename")}

    def talk(self, turns: int, system: bool, tool: bool) -> Conversation:
        """A conversation of `turns` questions and as many answers, or one more of each."""
        rng, phrases = self.rng, self.phrases
        slots = Slots(rng, phrases["slots"])
        said = Conversation(self.language, [])
        if system:
            said.messages.append({"role": "system", "content": pick(rng, phrases["system"])})
        if tool:
            self._call(said, slots)
        else:
            self._ask(said, slots, pick(rng, phrases["topics"]), turns)
        chance = rng.random()
        if turns > 1 and chance < 0.22:
            self._say(said, slots, *next(self.asides["contact"]))
        elif turns > 2 and chance < 0.29:
            self._say(said, slots, *next(self.asides["secret"]))
        elif turns > 2 and chance < 0.33 and phrases["codename"]:
            self._say(said, slots, *next(self.asides["codename"]))
        elif turns > 2 and rng.random() < 0.5:
            self._say(said, slots, pick(rng, phrases["thanks"]), pick(rng, phrases["welcome"]))
        said.planted = slots.planted
        return said

    def _ask(self, said: Conversation, slots: Slots, topic: dict[str, Any], turns: int) -> None:
        rng, phrases = self.rng, self.phrases
        details, extras = self._draw("detail"), self._draw("extra")
        asked, answered = self._match(topic)
        question = [self._open(asked), *(next(details) for _ in range(int(rng.random() * 3)))]
        answer = [pick(rng, phrases["assure"]), answered, next(extras)]
        self._say(said, slots, self.space.join(question), self.space.join(answer))
        more = list(topic["more"])
        rng.shuffle(more)
        for _ in range(turns - 1):
            if more:
                question, answer = ([text] for text in more.pop())
            else:  # the topic is exhausted: on to another
                other = pick(rng, phrases["topics"])
                asked, answered = self._match(other)
                question, answer = [pick(rng, phrases["also"]), asked], [answered]
                more = list(other["more"])
            if rng.random() < 0.35:
                question.append(next(details))
            if rng.random() < 0.6:
                answer.append(next(extras))
            self._say(said, slots, self.space.join(question), self.space.join(answer))

    def _match(self, topic: dict[str, Any]) -> tuple[str, str]:
        """A question of a topic and the answer that stands in the same place."""
        place = int(self.rng.random() * len(topic["ask"]))
        return topic["ask"][place], topic["answer"][place % len(topic["answer"])]

    def _call(self, said: Conversation, slots: Slots) -> None:
        rng, phrases = self.rng, self.phrases
        tool = pick(rng, phrases["tools"])
        properties = {name: {"type": "string"} for name in tool["arguments"]}
        parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
        schema = {"name": tool["name"], "description": tool["description"], "parameters": parameters}
        said.fields["tools"] = [{"type": "function", "function": schema}]
        for slot in ("city", "date", "minutes"):  # the answer says what the tool says
            slots[slot] = slots[slot]
        said.messages.append({"role": "user", "content": slots.fill(self._open(pick(rng, tool["ask"])))})
        call, arguments = f"call_{rng.getrandbits(48):012x}", slots.fill(tool["arguments"])
        function = {"name": tool["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
        calls = [{"id": call, "type": "function", "function": function}]
        said.messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        result = json.dumps(slots.fill(tool["result"]), ensure_ascii=False)
        said.messages.append({"role": "tool", "tool_call_id": call, "content": result})
        answer = self.space.join([pick(rng, tool["answer"]), next(self._draw("extra"))])
        said.messages.append({"role": "assistant", "content": slots.fill(answer)})
        slots.move_on()
        for slot in ("city", "date", "minutes"):
            del slots[slot]

    def _say(self, said: Conversation, slots: Slots, question: str, answer: str) -> None:
        said.messages.append({"role": "user", "content": slots.fill(question)})
        said.messages.append({"role": "assistant", "content": slots.fill(answer)})
        slots.move_on()

    def _open(self, ask: str) -> str:
        """The first question, often behind a greeting."""
        greeting = pick(self.rng, self.phrases["greet"]) if self.rng.random() < 0.7 else ""
        if not greeting.endswith(","):
            ask = ask[0].upper() + ask[1:]
        return f"{greeting}{self.space}{ask}".lstrip()

    def _draw(self, name: str) -> Iterator[str]:
        """Sentences in random order, none twice until all were said."""
        choices = self.phrases[name]
        while True:
            used: set[int] = set()
            while len(used) < len(choices):
                place = int(self.rng.random() * len(choices))
                if place not in used:
                    used.add(place)
                    yield choices[place]


EVENTS = ("joined the mesh", "left the mesh", "was dimmed to", "reports battery", "asks for a route,", "missed a beat,")


def device_log(rng: Random, length: int) -> str:
    """`length` characters of a log such as customers paste."""
    lines: list[str] = []
    held = 0
    while held <= length:
        clock, node, level = f"{rng.randrange(24):02d}h{rng.randrange(60):02d}m", rng.randrange(400), rng.randrange(100)
        lines.append(f"[{clock}] node {node} {pick(rng, EVENTS)} level {level} {letters(rng, 4, BASE32)}")
        held += len(lines[-1]) + 1
    return "\n".join(lines)[: length - 1] + "."
