r"""Secrets told by the name before them: `password = …`, `my PIN is …`, `--api-key …`, `<password>…</password>`; passwords
also by the name after them (`… is my password`), and by their name in the languages that `_PASS` lists.

RE2 finds the name and what links it to the value; the value is read in Python, to its closing quote or the next white
space. Quoted, a password may be any words that are no sentence; unquoted, it must not look like an ordinary word. A key
holds digits, or letters that make no words. A letter of a script without spaces ends an unquoted value. What is linked loosely (by a dash, an arrow, the end of a line) must look
more like a secret than what follows `=`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

import re2

from transforms.linear import matches
from transforms.placeholders import UNSPACED, Finding


class SecretPattern:
    """A pattern on RE2, which reads ASCII texts as bytes: where a match lies need not be counted anew in characters."""

    def __init__(self, pattern: str) -> None:
        options = re2.Options()
        options.max_mem = 64 << 20  # 64 MiB: the most RE2's caches may take, which they don't
        self.pattern = pattern
        self._characters, self._bytes = re2.compile(pattern, options), re2.compile(pattern.encode(), options)
        self.groupindex: dict[str, int] = self._characters.groupindex

    def spans(self, text: str) -> Iterator[list[tuple[int, int]]]:
        """The spans of each match and of its groups."""
        if not text.isascii():
            for match in self._characters.finditer(text):
                yield [match.span(group) for group in range(match.re.groups + 1)]
            return
        yield from matches(self._bytes, text.encode())


# ------------------------------------------------------------------------------------------- what looks like a secret

_ASCII_DIGIT, ASCII_LETTER = re.compile("[0-9]"), re.compile("[A-Za-z]")


def mixed(value: str) -> bool:
    """Holds a digit and a letter."""
    if value.isascii():
        return _ASCII_DIGIT.search(value) is not None and ASCII_LETTER.search(value) is not None
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


_SIGNS = frozenset("!#$%^&*@+~?")


def scrambled(value: str) -> bool:
    """Digits and letters with signs among them, or in both cases and several groups: no word, name of a standard or length.

    >>> [scrambled(one) for one in ("hUnter2!", "aQ4fX7", "Password2FA", "8-20chars", "RFC-2617")]
    [True, True, False, False, False]
    """
    if not mixed(value):
        return False
    cases = any(map(str.isupper, value)) and any(map(str.islower, value))
    return not _SIGNS.isdisjoint(value) or (cases and len(re.findall("[0-9]+", value)) > 1)


_CONSONANTS = re.compile("[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{7}")
_VOWEL = re.compile("[aeiouAEIOU]")


def keylike(value: str) -> bool:
    """Holds a digit and a letter, or sixteen letters and more that make no words.

    >>> keylike("qZrTbWkXpLmNsDfGhJcV"), keylike("wkqjzxvbnrtplmsdfghc"), keylike("getAccessTokenFromTheVault")
    (True, True, False)
    """
    if mixed(value):
        return True
    if len(value) < 16 or not (value.isascii() and value.isalpha()):
        return False
    capitals = sum(map(str.isupper, value)) / len(value)
    few_vowels = len(_VOWEL.findall(value)) < len(value) / 4  # of English letters two in five
    return 0.3 <= capitals <= 0.7 or few_vowels or _CONSONANTS.search(value) is not None


# ------------------------------------------------------------------------------------------- names, and what links


class Assigned(NamedTuple):
    """Where a value of type `entity` may begin: at the end of `pattern`, within the `quote` that it ends with.

    `loose`: what links the name and the value may link it to anything; `line`: the value is a line of its own;
    `before`: it ends where the pattern begins; `spoken`: nothing links them but a space and the value's quotes.
    Every match holds one of `needles`, case-folded.
    """

    entity: str
    needles: tuple[str, ...]
    pattern: SecretPattern
    loose: bool = False
    line: bool = False
    before: bool = False
    spoken: bool = False


# Letters beyond ASCII in no case but their own: gates know these only.
_PASS = (
    "password|passwd|passphrase|passcode|pwd|passwort|kennwort|wachtwoord|mot de passe|passord|adgangskode"
    "|contrase(?-i:[nñÑ])a|(?-i:[Пп]арол[ья]|密[码碼]|パスワード|비밀번호)|has(?-i:ł)o|l(?-i:ö)senord"
)
_OF = "(?:db|user|root|admin|my|new|old|ftp|smtp|imap|mail|email|ssh|sql|mysql|pg|store|key|bind|ldap|http|proxy|auth|login|sudo|vpn|wifi)"
KEYS = (
    r"(?:api|secret|access|auth|signing|private|encryption|account|storage|shared|master|subscription|license|app|application)"
    r"[_\- ]?key|(?:auth|access|refresh|bearer|api|bot|deploy|personal)?[_\- ]?token|secret|credential|apikey"
)
_QUOTE = r"(?P<quote>\\{0,3}[\"'`“‘])"
_ENV = r"(?:_(?:base|prod|production|prd|dev|development|staging|stage|stg|uat|qa|test|live|old|new|[0-9]{1,2})\b)?"
_AFTER_NAME = rf"{_ENV}[0-9]{{0,2}}(?:\[[0-9]{{0,4}}\])?[\\\"'`\])*]{{0,6}}"
_LINK = rf"{_AFTER_NAME}[ \t]{{0,4}}(?P<link>:=|=>|==?|:|(?-i:[：是为為は는은]))[ \t*]{{0,4}}{_QUOTE}?"
# What the password is for. Of two alternatives Hyperscan keeps so little that they fire on any text beyond ASCII.
_FOR = r"(?: (?:(?:for|to|of|on) |\()[^\n.,;:]{1,40}?)"
_SET = "(?:set|changed|reset|updated)"
_IS = (
    rf"{_FOR}? (?P<link>(?:is|was|will be|should be|has been|ist|lautet|est|es|(?-i:[èé]))(?: now| currently)?(?: {_SET} to)?"
    rf"|(?:{_SET} )?to):?[ ]{{1,2}}"
    r"(?P<quote>[\"'`“‘])?"
)
# `password: str = "…"`, `password string = "…"`
_TYPED = (
    r"[0-9]{0,2}(?:[ \t]{0,2}:[ \t]{0,2}[&*]?(?:'static )?[A-Za-z][\w.\[\]<>|? ]{0,30}|[ \t]string)"
    rf"[ \t]{{0,2}}(?P<link>=)[ \t]{{0,4}}{_QUOTE}"
)
_ARROW = rf"(?:{_AFTER_NAME}[ \t]{{0,4}}(?:(?:->|→|➜|»)|[ \t](?:--?|–|—))|{_FOR}[ \t*]{{0,4}}:)[ \t](?P<link>)[ \t*]{{0,3}}{_QUOTE}?"
_NEXT_LINE = (
    rf"{_FOR}?{_AFTER_NAME}(?: is)?[ \t]?:[ \t*]{{0,4}}(?:\r?\n[ \t>]{{0,4}}(?:```[a-z]{{0,10}})?){{1,2}}"
    rf"[ \t>*]{{0,4}}(?P<link>){_QUOTE}?"
)
_CALL = rf"\([ \t]{{0,2}}(?:[\w.]{{1,40}},[ \t]?)?(?P<link>){_QUOTE}"
# `<add key="Password" value="…"/>`, `{"name": "DB_PASSWORD", "value": "…"}`, `- name: DB_PASSWORD` and `value: …` below it
_VALUE = (
    r"[0-9]{0,2}[\\\"']{0,8}(?:,\s{0,40}|\s{1,40})(?P<link>)[\\\"']{0,8}value[\\\"']{0,8}[ \t]{0,2}[:=][ \t]{0,4}"
    rf"{_QUOTE}?"
)
_GIVEN = r"[ \t]?(?:\\{0,3}[\"'][^\"'\n]{1,128}[\"']|[\w.$]{1,40}),\s{0,12}"  # an argument before it
_OPTION = rf"[\"']?,?(?P<link>[ \t]{{1,2}}){_QUOTE}?"


def _one(entity: str, needles: str, pattern: str, *, loose: bool = False, line: bool = False) -> Assigned:
    return Assigned(entity, tuple(needles.split()), SecretPattern(pattern), loose, line)


def _named(entity: str, needles: str, name: str, whole: str) -> Iterator[Assigned]:
    """By a name, which may end a longer one; `whole` is what it may be where nothing else tells."""
    yield _one(entity, needles, f"(?i){name}{_LINK}")
    yield _one(entity, needles, f"(?i){name}{_IS}")
    yield _one(entity, needles, f"(?i){name}{_TYPED}")
    yield _one(entity, needles, f"(?i){name}{_ARROW}", loose=True)
    yield _one(entity, needles, f"(?i){name}{_NEXT_LINE}", loose=True, line=True)
    yield _one(entity, needles, f"(?i){name}{_VALUE}")
    yield _one(entity, needles, rf"(?i)(?:\.|set_?|with_?){name}{_CALL}")
    yield _one(
        entity, needles, rf"(?i)(?:^|[^\w\-])--(?:[a-z0-9]{{1,20}}-){{0,3}}(?:{name}|{whole}){_OPTION}", loose=True
    )
    yield _one(
        entity, needles, rf"(?i)<(?:[\w\-.:]{{0,30}}{name}(?:[ \t][^<>]{{0,80}})?|{whole})(?P<link>)(?P<quote>>)"
    )


_PASS_NEEDLES = (
    "pass pwd kennwort wachtwoord mot adgangskode contrase senha парол 密码 密碼 パスワード 비밀번호 hasło lösenord"
)
ASSIGNED = (
    *_named(
        "PASSWORD", _PASS_NEEDLES, rf"(?:(?:{_PASS})(?:_?confirm(?:ation)?)?|(?:^|[^a-z])(?:{_OF}?pass|senha))", "pass"
    ),
    *_named("API_KEY", "key token secret credential", f"(?:{KEYS})", "key"),
    _one(
        "PIN",
        "pin",
        r"(?i)(?:\b|_)pin(?:[ _\-]?(?:code|number))?[\\\"']{0,8}(?:(?: (?:for|to|of|on) [^\n.,;:]{1,40}?)? is|[ \t]?[:=]| )"
        rf"[ ]{{0,2}}(?P<link>){_QUOTE}?",
    ),
    Assigned(
        "PASSWORD",
        ("password",),
        SecretPattern(
            r"(?i)[\"'`”’]?(?P<link>)(?P<quote>) (?:is|was|as) (?:my|the|your|our|his|her|their) "
            r"(?:(?:new|old|current|temporary|admin|root|wifi) )?password"
        ),
        before=True,
    ),
    # Among all patterns for passwords, these two letters would make the gate's scan take twice as long.
    _one("PASSWORD", "pw psk", rf"(?i)(?:^|[^a-z0-9])(?:pw|psk)[ \t]?(?P<link>[:=])[ \t*]{{0,4}}{_QUOTE}?", loose=True),
    Assigned(
        "PASSWORD",
        ("password", "passphrase", "passcode"),
        SecretPattern(rf"(?i)pass(?:word|phrase|code)[ \t]{{1,2}}(?P<link>){_QUOTE}"),
        spoken=True,
    ),
    _one(
        "PASSWORD",
        "convertto-securestring",
        rf"(?i)convertto-securestring(?:[ \t]{{1,4}}-(?:string|asplaintext|force)){{0,3}}[ \t]{{1,4}}(?P<link>){_QUOTE}",
    ),
    # A cell of a table beside that of its name; what PHP, images and servers are configured with.
    _one(
        "PASSWORD",
        _PASS_NEEDLES,
        rf"(?i)\|[ \t*_`]{{0,4}}(?:{_PASS})[ \t*_`:]{{0,4}}\|[ \t`]{{0,4}}(?P<link>){_QUOTE}?",
        loose=True,
    ),
    _one(
        "PASSWORD",
        "define",
        rf"(?i)\bdefine\([ \t]{{0,4}}[\"'][\w.]{{0,40}}(?:{_PASS}|_pass)[\"'][ \t]{{0,4}},[ \t]{{0,4}}(?P<link>){_QUOTE}",
    ),
    _one(
        "API_KEY",
        "define",
        rf"(?i)\bdefine\([ \t]{{0,4}}[\"'][\w.]{{0,40}}(?:{KEYS}|_(?:key|salt))[\"'][ \t]{{0,4}},[ \t]{{0,4}}(?P<link>){_QUOTE}",
    ),
    _one(
        "PASSWORD",
        "env requirepass masterauth",
        rf"(?i)(?:\benv[ \t]{{1,4}}\w{{0,40}}(?:{_PASS}|_pass)|(?:(?:^|\n)[ \t]{{0,8}}|config[ \t]set[ \t])(?:requirepass|masterauth))[ \t]{{1,4}}(?P<link>){_QUOTE}?",
        loose=True,
    ),
    _one(
        "PASSWORD",
        "password",
        rf"(?i)\bset\s{{1,4}}password\s{{1,4}}for\s{{1,4}}\S{{1,64}}\s{{0,4}}=\s{{0,4}}(?:password\()?(?P<link>){_QUOTE}",
    ),
    # `<td>Password</td><td>…</td>`, `<property name="connection.password">…</property>`, `<input type="password" value="…">`
    _one(
        "PASSWORD",
        _PASS_NEEDLES,
        rf"(?i)(?:{_PASS})(?:[ \t:]{{0,3}}</[a-z]{{1,10}}>\s{{0,40}}<[a-z]{{1,10}}[^<>]{{0,80}}|[\"'][^<>]{{0,40}})(?P<link>)(?P<quote>>)",
        loose=True,
    ),
    _one(
        "PASSWORD",
        _PASS_NEEDLES,
        rf"(?i)(?:{_PASS})[ \t:]{{0,3}}</[a-z]{{1,10}}>:?[ \t]{{0,3}}(?P<link>){_QUOTE}?",
        loose=True,
    ),
    _one(
        "PASSWORD",
        _PASS_NEEDLES,
        rf"(?i)(?:(?:{_PASS})[\"']\)+\.(?:send_?keys|fill|type)\(|\.(?:fill|type)\([ \t]?[\"'][^\"'\n]{{0,40}}(?:{_PASS})[^\"'\n]{{0,10}}[\"'],)"
        rf"[ \t]?(?P<link>){_QUOTE}",
    ),
    _one(
        "PASSWORD",
        "password",
        rf"(?i)type=[\"']?password[\"']?[^<>]{{0,120}}?\svalue=(?P<link>){_QUOTE}",
    ),
    _one(
        "API_KEY",
        "_key",
        rf"(?:^|[^A-Za-z0-9_])[A-Z][A-Z0-9_]{{1,40}}_KEY(?:_[A-Z0-9]{{1,10}})?[ \t]{{0,2}}(?P<link>[=:])[ \t]{{0,2}}{_QUOTE}?",
        loose=True,
    ),
    # A netrc file; and what HTTP clients are given.
    _one(
        "PASSWORD",
        "login",
        rf"(?i)\blogin\s{{1,12}}\S{{1,64}}\s{{1,12}}password\s{{1,12}}\*{{0,2}}(?P<link>){_QUOTE}?",
        loose=True,
    ),
    _one(
        "PASSWORD",
        "auth",
        rf"(?i)(?:\bauth[ \t]?=[ \t]?|(?:basic|digest|proxy)_?auth)\({_GIVEN}(?P<link>){_QUOTE}",
    ),
    Assigned(
        "PASSWORD",
        ("login", "mysql", "connector", "pdo", "getconnection", "networkcredential"),
        SecretPattern(
            rf"(?i)(?:(?:\.login|networkcredential)\(|(?:mysqli?(?:_connect)?|pdo|getconnection|(?:mysql|mysqldb|connector)\.connect)\({_GIVEN}){_GIVEN}"
            rf"(?P<link>){_QUOTE}"
        ),
        spoken=True,
    ),
    _one(
        "PASSWORD",
        "password",
        r"(?i)\b(?:with|encrypted|login|(?:create|alter)\s{1,4}(?:user|role)\s{1,4}\S{1,64})\s{1,4}password\s{1,4}"
        rf"(?P<link>){_QUOTE}",
    ),
    _one(
        "PASSWORD",
        "identified",
        r"(?:IDENTIFIED|(?i:(?:create|alter)\s{1,4}(?:user|role)\s[^;]{0,100}?\sidentified))"
        rf"(?i:\s{{1,4}}with\s{{1,4}}\S{{1,40}})?\s{{1,4}}(?i:by|as)(?i:\s{{1,4}}password)?\s{{1,4}}(?P<link>){_QUOTE}",
    ),
)


# ------------------------------------------------------------------------------------------- values

_CLOSING = {"“": "”", "‘": "’"}
_QUOTED = {quote: re.compile(rf"[^{_CLOSING.get(quote, quote)}\n]{{1,512}}") for quote in "\"'`“‘"}
_QUOTED[">"] = re.compile(r"[^<\n]{1,512}(?=</)")  # the body of an element
_ESCAPING = {quote: re.compile(rf"(?:[^\\{quote}\n]|\\[^\n]){{1,512}}(?={quote})") for quote in "\"'"}
_BARE = rf"[^\s\"'`“”‘’;<>{UNSPACED}，。！？；、）」』】》]{{1,512}}"
_SETTING = re.compile(
    rf"{_BARE}(?:;(?!\w[\w .\-]{{0,40}}[=:])(?=[A-Za-z]{{0,16}}[0-9!@#$%^&*+?~]){_BARE}){{0,8}}"
)  # no command, no setting
_UNQUOTED = re.compile(rf"(?![0-9~–\-]+[{UNSPACED}]){_BARE}(?:;(?!\w[\w .\-]{{0,40}}[=:]){_BARE}){{0,8}}")
_ONLY_WRITTEN = re.compile(rf"[{UNSPACED}\W]+")  # `请输入密码`
_NEXT_FIELD = re.compile(r"[&,][\w.\[\]\-]{1,64}[=:]")
_END_OF_LINE = re.compile(r"[\"'`]{0,3}[ \t.,]*(?:$|\r?\n)")
_CODE = re.compile(r"\$|\[\]|%[sd(]|\{\{|[A-Za-z_][\w.]*[(\[{]|(?:[A-Za-z_]\w*(?:\.|->|::))+[A-Za-z_]\w*$|https?://")
_SYMBOL = re.compile(r"[0-9]|[^\w.,:;'’)\]}\-]")
_MASK = re.compile(r"[({\[]?[*•.xX#_\-]+$")
_STAND_IN = re.compile(
    r"<[^<>]*>$|\$?\{.*\}$|\$\w+$|\[.*\]$|(?i:(?:your|my)[_\- ]?(?:[a-z]{0,12}[_\- ])?(?:password|passwd|pass|pwd)(?:[_\- ]here)?)$"
    r"|(?=[^%{]*[%{])(?:%[sdr]|%\(\w{1,40}\)[sdr]|\{[^{}]*\}|[^\w%{}]|_)+$"  # `%s.%s`, `{}/{}`
)
_OPENED = re.compile(r"[(\[][A-Za-z_ \-]+$|\{@?[A-Za-z_][\w.]*(?:[!:(\[]|\}|$)")  # `[REDACTED`, `{password!r`
_ORDINARY_WORDS = (
    "string str text null none nil true false undefined required optional password passwd pwd pass secret "
    "token value invalid incorrect missing bytes varchar char any object number boolean int integer empty "
    "unset yes no hidden redacted input type is not must should can the your and or field masked passwort "
    "kennwort wachtwoord contraseña contrasena senha passord adgangskode hasło lösenord пароль erforderlich "
    "verplicht obligatoire requis obligatorio requerido requerida obrigatório обязательно"
)
# What everybody knows, and names of products: a password that goes is looked for in all of the record.
_WELL_KNOWN = (
    "admin administrator root toor guest user username usr login test tester testing demo sample example default "
    "changeme changeit change_me student teacher welcome hello world foo bar baz foobar anonymous nobody localhost "
    "postgres postgresql mysql mariadb mongo mongodb redis rabbitmq oracle sqlserver mssql sqlite cassandra neo4j "
    "couchdb influxdb clickhouse elastic elasticsearch kibana grafana prometheus kafka minio minioadmin wordpress "
    "drupal joomla magento nextcloud nginx apache tomcat jenkins docker kubernetes vagrant ansible git github gitlab "
    "airflow superset keycloak django flask laravel spring rails python java linux ubuntu debian raspberry"
)
_ORDINARY = frozenset([*_ORDINARY_WORDS.split(), *_WELL_KNOWN.split(), "mot de passe"])
_SENTENCE = re.compile(
    r"(?i)\b(?:password|enter|please|must|your|required|invalid|incorrect|forgot|the|cannot|passwort|bitte|ihr|dein|contraseña"
    r"|introdu[cz]\w+|ingresa\w*|senha|digite|mot de passe|veuillez|votre|entrez|wachtwoord|voer|пароль|введите)\b"
)
# What passwords are spoken of with: hashes, encodings, lengths, spans of time.
_TECHNICAL = re.compile(
    r"(?i)(?:(?:hmac|pbkdf2)[-_]?)?(?:sha[-_]?[0-9]+|md[45]|base(?:32|58|64)|utf[-_]?(?:8|16)|argon2(?:id?)?|oauth2?)$"
    r"|[0-9]+[-+]?(?:char|character|digit|bit|byte|letter|word|sec|second|min|minute|hour|day|week|month|year|time)s?$"
)
_TOKEN_VALUE = re.compile(r"[A-Za-z0-9_\-./+=~%:]{12,}$")
# In quotes, as Django's, with signs of all kinds; no code, no list, no pairs.
_QUOTED_TOKEN = re.compile(
    r"(?!.*(?:\$\{|\{\{|[\w)]\)|[A-Za-z_]{3,}[(\[]|[\w\]}],|=[^&;]*[&;][\w.]+=))[!-\[\]-~]{12,}$"
)
_NO_TOKEN = re.compile(r"[a-z][a-z0-9+.\-]*://|arn:")
_NO_SECRET = re.compile(
    r"[/.~]|v?[0-9][0-9.,:/\-]*$|[^@\s]+@[\w\-]+(?:\.[\w\-]+)+$|.*\.[a-z]{2,4}$"
    r"|(?i:step|page|type|field|phase|level|option|screen|chapter|section|version|error|example|table|figure|question|rule)"
    r"[0-9]{1,3}$"
)
_VARIABLE = re.compile(  # `Ed25519PrivateKey`, `s3_connection`
    r"[A-Za-z_][\w.]*[a-z0-9](?:Key|Token|Secret|Credential)(?:s|Types?)?$|(?:[a-z]+[0-9]?_)+[a-z]{3,}[0-9]?$"
)
_SHORTEST = 2  # characters of a value in a query string
_LOOSE_LEAST = 6  # characters of a value that is linked loosely


def find_assigned(one: Assigned, text: str) -> Iterator[Finding]:
    """The values of one kind in a text."""
    link, quoted = one.pattern.groupindex["link"], one.pattern.groupindex["quote"]
    for spans in one.pattern.spans(text):
        if one.before:
            yield from _find_before(one.entity, text, spans[0][0], spans[link][0])
            continue
        start = spans[0][1]
        quote = text[slice(*spans[quoted])]
        value = _read(text, start, quote)
        if value is None:
            continue
        kept = _trim(value.group(), bool(quote), text[slice(*spans[link])].strip() == "=")
        if one.entity == "API_KEY" and not quote:
            kept = _KEY_END.split(kept, maxsplit=1)[0]
        end = start + len(kept)
        if one.line and not _END_OF_LINE.match(text, end):
            continue
        linked = text[slice(*spans[link])]
        tight = linked == "=" and text[start - 1] == "=" and text[end : end + 1] not in _CALLED
        element = one.loose and (quote == ">" or "</" in text[spans[0][0] : start])
        if not _plausible(one.entity, kept, bool(quote) and not one.spoken and not element, tight):
            continue
        loose = element or (one.loose and not quote) or linked == "==" or one.spoken
        if loose and _is_loose(kept) and not (linked and _DIGITS.fullmatch(kept)):
            continue
        if element and not (scrambled(kept) and len(kept.split()) == 1):
            continue
        if one.spoken and (not _CLOSED.fullmatch(text[start : end + 1]) or ':"' in kept):  # a tag of a field in Go
            continue
        if not _misread(text, spans[0][0], spans[link], start, quote, kept):
            yield Finding(start, end, one.entity, 0.8, True)


_CALLED = (")", ",", "(")
_KEY_END = re.compile("[#!»\\]]")  # the end of a query string, of a sentence, of a link's text
_DIGITS = re.compile(r"[0-9]{6,}")  # `pw=12345678`, which is no width of a pulse
_CLOSED = re.compile(r"\S+[\\\"'`”’]")
_AROUND_NAME, _NAME = " \t\r\n\\\"'`*])(,:=", re.compile(r"[^\w\-]+")
_PUBLIC = re.compile(  # keys that open nothing; of .NET's assemblies too
    r"public_?key(?:token)?$|(?:^|_)(?:gpg|pgp|site|answer|sort|partition|primary|foreign|row|cache|index|publishable)_key$"
)
_UNJOINED = re.compile(r"[\W_]+")
_FOLDER = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[/\\]")
_BARE_PASS = re.compile(r"(?i)[^a-z]?pass(?![a-z])")
_VERB = re.compile(r"(?i)\b(?:to|will|can|could|should|must|may|not|we|you)$")
_ONE_DASH = re.compile(r"(?:^|[^\w\-])-[a-z]+(?:-[a-z]+){0,3}$")
_PROMPT, _BEFORE_QUOTE = re.compile(r"[\w \t.\-$#*>]*"), re.compile(r"(?:^|[\s(\[{=,:+>])[fbru]{0,2}$")


def _misread(text: str, begin: int, link: tuple[int, int], start: int, quote: str, value: str) -> bool:
    """What stands about the `value` at `start` tells that it is none: its name begins at `begin`, and ends before `link`."""
    called = _NAME.split(text[max(0, begin - 64) : link[0]].rstrip(_AROUND_NAME).casefold())[-1]
    if _speaks_of_itself(called, value) or _PUBLIC.search(called):
        return True
    if not quote and text[slice(*link)] == "==" and value.isidentifier():
        return True
    if _BARE_PASS.match(text, begin):
        before = text[max(0, begin - 32) : begin]
        if text[slice(*link)].casefold() == "to" or (text[begin].isspace() and _VERB.search(before)):
            return True  # `pass to …`, `to pass: …`
        if text[begin] == "-" and value.isalpha() and _ONE_DASH.search(before):
            return True  # `-debug-pass=Structure`
    if quote and value[0] in " ),.;:+]}%" and quote not in text[begin : start - len(quote)]:
        before, opened, prompt = text[max(0, begin - 64) : begin].rpartition(quote)
        if opened and _PROMPT.fullmatch(prompt) and _BEFORE_QUOTE.search(before[-3:]):
            return True  # `print("password: ", …)`: the quote closes what it stands in
    return _is_user(text, start, value)


def _speaks_of_itself(name: str, value: str) -> bool:
    """A name given as its own value, and the current folder, which shells call PWD.

    >>> _speaks_of_itself("change_password", "CHANGE_PASSWORD"), _speaks_of_itself("oldpwd", "/home")
    (True, True)
    """
    joined = _UNJOINED.sub("", name)
    own = joined != "" and joined == _UNJOINED.sub("", value.casefold())
    return own or (name in ("pwd", "oldpwd") and _FOLDER.match(value) is not None)


_USER = re.compile(r"(?i)(?:user(?:[_\- ]?name)?|login|uid|(?:^|\s)-u)(?:[\\\"'`\s:=(>]|\bis\b){1,12}$")
_BESIDE = 160  # characters before and after a password in which its user may be named


def _is_user(text: str, start: int, value: str) -> bool:
    """The `value` at `start` is the user's name too, which stands beside it.

    >>> _is_user("user=wiki password=wiki", 19, "wiki"), _is_user("user=wikis password=wiki", 20, "wiki")
    (True, False)
    """
    first, last = max(0, start - _BESIDE), start + len(value) + _BESIDE
    place = text.find(value, first, last)
    while place >= 0:
        end = place + len(value)
        whole = not text[end : end + 1].isalnum()
        if place != start and whole and _USER.search(text[max(0, place - 32) : place]):
            return True
        place = text.find(value, end, last)
    return False


def is_ordinary(value: str) -> bool:
    """An ordinary word, or what everybody knows: no secret, whatever is said of it."""
    return value.strip(" :").casefold() in _ORDINARY


def is_quoted_secret(value: str) -> bool:
    """What is in quotes is a password where nothing else may be."""
    return not re.search(r"\s", value) and _plausible("PASSWORD", value, True, False)


def is_loose_secret(value: str) -> bool:
    """What nothing but its place tells of looks like a password."""
    return not re.search(r"\s", value) and _plausible("PASSWORD", value, False, False) and not _is_loose(value)


def _find_before(entity: str, text: str, end: int, linked: int) -> Iterator[Finding]:
    """The value that ends at `end`, to the opening of its quotes if it is closed between there and `linked`, or a space."""
    first = max(0, end - 128)
    if quote := text[end:linked]:
        start = text.rfind(_OPENING.get(quote, quote), first, end) + 1
        value = text[start:end] if start else ""
    else:
        value = re.split(rf"[\s{UNSPACED}]", text[first:end])[-1].lstrip("([{*")
        start = end - len(value)
    if _plausible(entity, value, bool(quote), False) and _SYMBOL.search(value) and not _is_loose(value):
        yield Finding(start, end, entity, 0.8, True)


_OPENING = {closing: opening for opening, closing in _CLOSING.items()}


def _read(text: str, start: int, quote: str) -> re.Match[str] | None:
    """The value that begins at `start`: to the end of its quotes, in which a quote may be escaped, or to a space."""
    if not quote:
        return (_SETTING if text[start - 1] == "=" else _UNQUOTED).match(text, start)
    escaping = _ESCAPING[quote].match(text, start) if quote in _ESCAPING else None
    return escaping or _QUOTED[quote[-1]].match(text, start)


@functools.lru_cache(maxsize=4096)
def _trim(value: str, quoted: bool, setting: bool) -> str:
    """The value without what follows it: the next pair of a query string, where it is a `setting` itself, or of a list."""
    if quoted:
        return value.rstrip("\\")
    following = _NEXT_FIELD.search(value, 1)
    if following is not None and (value[following.start()] == "," or (setting and following.start() > _SHORTEST)):
        value = value[: following.start()]
    return value.rstrip(".,:)]}\\*?")


@functools.lru_cache(maxsize=4096)
def _is_loose(value: str) -> bool:
    """Anything may be said of a password after a dash: a version, a path, a file, a date, `step2`."""
    return len(value) < _LOOSE_LEAST or _NO_SECRET.match(value) is not None


@functools.lru_cache(maxsize=4096)
def _plausible(entity: str, value: str, quoted: bool, tight: bool) -> bool:
    """`value` after its keyword is a secret. `tight`: as in a file of settings or a query string, `KEY=value`."""
    if entity == "PIN":
        return value.isdigit() and 4 <= len(value) <= 8
    if is_ordinary(value) or any(one.match(value) for one in (_STAND_IN, _MASK, _TECHNICAL)):
        return False
    if entity == "API_KEY":
        code = not quoted and (_CODE.match(value) or _VARIABLE.match(value))
        code = code or _NO_TOKEN.match(value)
        read = _TOKEN_VALUE.match(value) or (quoted and _QUOTED_TOKEN.match(value))
        return bool(read) and keylike(value) and not code
    if quoted:
        return len(value) >= 3 and not (" " in value and _SENTENCE.search(value)) and not _ONLY_WRITTEN.fullmatch(value)
    if len(value) < 4 or _CODE.match(value) or _OPENED.match(value):
        return False
    return bool(_SYMBOL.search(value)) or (tight and not _STRONG_NAME.search(value))


# ------------------------------------------------------------------------------------------- questions

_ASKED = re.compile(rf"(?i)(?P<password>{_PASS})|\b(?P<pin>pin)\b|(?P<key>\bapi[ _-]?key|\btoken)\b")
_NOT_ASKED = re.compile(r"(?i)\b(?:when|how|why|where|did|change[ds]?|reset|forg[eo]t\w*|many|policy|characters?)\b")
_NO_ANSWER = re.compile(r"[/.~]|\w+://|[0-9]+(?:[.,:/\-][0-9]+)+$")  # a path, an address, a date, a version


def asks_for_secret(question: str, answer: str) -> str:
    """What stands before a secret in place of a question for it; nothing where it asks for none, or `answer` is none.

    >>> asks_for_secret("What is your PIN for the card", "4821"), asks_for_secret("When did you reset it", "4821")
    ('pin: ', '')
    """
    asked = None if _NOT_ASKED.search(question) or _NO_ANSWER.match(answer) else _ASKED.search(question)
    return "" if asked is None else f"{asked.lastgroup}: "


# ------------------------------------------------------------------------------------------- fields of JSON

_STRONG_NAME = re.compile(rf"(?i)(?:{_PASS}|pass|(?:^|[^a-z])(?:pw|senha))s?[0-9]*$")
_WEAK_NAME = re.compile(
    r"(?i)(?:(?:api|secret|access|auth|signing|private|encryption|account|storage|shared|master)[_\- ]?key|token|"
    r"secret|credential|apikey|authorization)s?[0-9]*$"
)
_PIN_NAME = re.compile(r"(?i)(?:^|[_\- ])pin(?:[_\- ]?(?:code|number))?$")


@functools.lru_cache(maxsize=4096)
def names_secret(key: str) -> bool:
    """`secret_field` may take what is kept under `key` for a secret."""
    return any(name.search(key) for name in (_STRONG_NAME, _WEAK_NAME, _PIN_NAME))


def secret_field(key: str, value: str) -> str | None:
    """The type of secret that the whole of `value` is, by the key that a JSON object keeps it under.

    >>> secret_field("userPassword", "correcthorse"), secret_field("access_token", "a1" * 8), secret_field("pin", "7")
    ('PASSWORD', 'API_KEY', None)
    """
    value = value.strip()
    if _speaks_of_itself(key.casefold(), value):
        return None
    if _STRONG_NAME.search(key):
        return "PASSWORD" if _plausible("PASSWORD", value, True, False) else None
    if _WEAK_NAME.search(key):
        return "API_KEY" if len(value) >= 12 and keylike(value) and _plausible("API_KEY", value, True, False) else None
    if _PIN_NAME.search(key):
        return "PIN" if _plausible("PIN", value, True, False) else None
    return None
