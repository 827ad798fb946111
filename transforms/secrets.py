"""Secrets: keys, tokens, passwords, connection strings. Patterns run on RE2, in linear time; no rule on bare entropy.

A rule runs only where one of its `needles` is in the case-folded text: every match of the pattern holds one.
A token is found wherever it ends, before a full stop or comma too. What is redacted of a URL:

* a connection string with a password, of a database, queue or file server: the whole of it (`postgres://user:pw@host/db`);
* any other URL with a password: only `user:password` (`https://<URL_CREDENTIALS_1>@host/path`).

Limits: a password, or a key without a known prefix, is found by the name before it (see `assigned`). Unquoted it must
not look like an ordinary word: `password: correcthorse` stays. So do well-known defaults (`postgres`) and the name of
the user beside it, since what is found goes from all of the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from transforms.assigned import (
    ASCII_LETTER,
    ASSIGNED,
    KEYS,
    SecretPattern,
    find_assigned,
    is_ordinary,
    keylike,
    mixed,
    scrambled,
)
from transforms.columns import HEADING, find_columns
from transforms.gate import Source
from transforms.placeholders import Finding

Check = Callable[[str], bool]
Span = tuple[int, int]

# A token starts the text, or follows what no token holds, or an escaped newline or tab.
_START = r"(?:^|[^A-Za-z0-9]|\\[nrt])"


@dataclass(frozen=True)
class Rule:
    """`entity` is what the first group of `pattern` holds, where it passes `check`. `in_path`: also as a piece of a path."""

    entity: str
    needles: tuple[str, ...]
    pattern: SecretPattern
    check: Check | None = None
    score: float = 1.0
    in_path: bool = True

    def spans(self, text: str) -> Iterator[Span]:
        for _, (start, end), *_ in self.pattern.spans(text):
            value = text[start:end]
            kept = _unbracketed(value)
            if not kept or (self.check is not None and not self.check(kept)):
                continue
            if self.in_path or not _in_path(text, start, start + len(kept)):
                yield start, start + len(kept)


_PATH_TO, _PATH_GOES_ON = re.compile(r"(?:/|\w\.\w)[\w.\-/~%#+]*$"), re.compile(r"\.\w")


def _in_path(text: str, start: int, end: int) -> bool:
    """What lies from `start` to `end` is a piece of a URL's path or of another one.

    >>> _in_path("https://example.com/Some/Page.html", 16, 29), _in_path("the key=Some/Page. It", 8, 17)
    (True, False)
    """
    return _PATH_GOES_ON.match(text, end) is not None or _PATH_TO.search(text[max(0, start - 256) : start]) is not None


_OPENING = {")": "(", "]": "[", "}": "{", ">": "<"}


def _unbracketed(value: str) -> str:
    """`value` without the full stops, commas and closing brackets of the sentence it ends.

    >>> _unbracketed("redis://a:b@c/0)."), _unbracketed("amqp://a:(b)@c/(d)")
    ('redis://a:b@c/0', 'amqp://a:(b)@c/(d)')
    """
    while value and (value[-1] in ".,;:" or value.count(value[-1]) > value.count(_OPENING.get(value[-1], value[-1]))):
        value = value[:-1]
    return value


def _token(entity: str, needles: str, pattern: str) -> Rule:
    return Rule(entity, tuple(needles.split()), SecretPattern(f"{_START}({pattern})"))


def _near(entity: str, needles: str, pattern: str, check: Check | None = None, *, in_path: bool = True) -> Rule:
    score = 1.0 if entity == "CONNECTION_STRING" else 0.9
    return Rule(entity, tuple(needles.split()), SecretPattern(pattern), check, score, in_path)


def _random_base64(value: str) -> bool:
    """Holds a digit and letters of both cases, as no hexadecimal digest does."""
    return any(map(str.isdigit, value)) and any(map(str.isupper, value)) and any(map(str.islower, value))


def _aws_secret(value: str) -> bool:
    """Holds a digit, or letters that make no words (one random key in a thousand has no digit), and capitals enough.

    >>> _aws_secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), _aws_secret("AmazonS3/latest/dev/UploadingManyObjects")
    (True, False)
    """
    capitals, small = sum(map(str.isupper, value)), sum(map(str.islower, value))
    return capitals >= 6 and small > 0 and keylike(re.sub("[/+]", "", value))


def _dense(value: str) -> bool:
    """A run of letters and digits in it is no word with a number (`issue-2024`, `page12`): a name in an address may be that."""
    return any(keylike(run) and not _WORD_AND_NUMBER.fullmatch(run) for run in _RUNS.findall(value))


def _spoken_key(value: str) -> bool:
    return mixed(value) and _dense(value) and not value.startswith(("0x", "0X"))


_RUNS, _WORD_AND_NUMBER = re.compile("[A-Za-z0-9]{8,}"), re.compile("[A-Za-z]*[0-9]+[A-Za-z]*")


def _strong(value: str) -> bool:
    """As no word, option or version is written, which may follow the word `password` too.

    >>> [_strong(one) for one in ("fCH^spP2nh2q", "9wgzKq2mTr", "OAuth2Client", "sha256:12ab", "reset-2024", "$PASSWORD1")]
    [True, True, False, False, False, False]
    """
    return scrambled(value) and value[0] not in "$%/-:" and value[-1].isalnum() and "://" not in value


def _with_password(value: str) -> bool:
    """A URL, or what stands before its host, holds a password, or a user's name that is a key; no stand-in for one.

    >>> [_with_password(f"ssh://{one}@host") for one in ("git", "bob:hunter2", "{user}:{pw}", "[user", "user:password")]
    [False, True, False, False, False]
    """
    said = value.partition("://")[2].rpartition("@")[0] if "://" in value else value
    user, _, password = said.partition(":")
    if said[:1] in ("[", "{") or _NO_PASSWORD.match(password):
        return False
    return password != "" or (len(user) >= 16 and keylike(user))


_NO_PASSWORD = re.compile(
    r"(?:\$?\{|%(?:[s(]|d(?![0-9A-Fa-f]))|[\[(<]|\$\w+$|[0-9]{1,5}/)|(?i:(?:your|my|the|db|user)?[_\-]?(?:password|passwd|pass|pwd|pw|secret)|xxx+|\*+)$"
)


def _credential(value: str) -> bool:
    """`user:password`, of which neither is a stand-in or a variable."""
    if value[0] in "$<{" or _NO_PASSWORD.match(value.partition(":")[2]):
        return False
    return not value.isalpha() or (not value.islower() and not value.istitle() and not value.isupper())


def _credential_password(value: str) -> bool:
    """What stands after a user's name is no word, date, port or path."""
    return not value.isalpha() and not is_ordinary(value) and any(map(str.isalpha, value)) and "." not in value[-5:]


_DATABASES = (
    "postgres|postgresql|mysql|mariadb|mongodb|redis|rediss|amqp|amqps|mssql|sqlserver|clickhouse|cassandra|oracle|"
    "cockroachdb|couchdb|neo4j|bolt|influxdb|kafka|nats|mqtt|mqtts|ldap|ldaps|smtp|smtps|ftp|ftps|sftp|ssh|snowflake|"
    "redshift|memcached|elasticsearch|db2|teradata|trino|presto|vertica|hive|rabbitmq|imap|imaps|pop3|smb"
)

_TOKENS = (
    _token("AWS_ACCESS_KEY", "akia asia abia acca", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"),
    _token("GCP_API_KEY", "aiza", r"AIza[0-9A-Za-z_\-]{35}"),
    _token("GCP_TOKEN", "ya29. gocspx- 1//0", r"ya29\.[0-9A-Za-z_\-]{20,}|GOCSPX-[0-9A-Za-z_\-]{20,}|1//0[\w\-]{20,}"),
    _token("AZURE_KEY", "==", r"[A-Za-z0-9+/]{86}=="),
    _token("AZURE_KEY", "q~", r"[A-Za-z0-9_~.\-]{3}[0-9]Q~[A-Za-z0-9_~.\-]{31,34}"),
    _token("GITHUB_TOKEN", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{30,255}"),
    _token("GITHUB_TOKEN", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    _token(
        "GITLAB_TOKEN",
        "glpat- gldt- glrt- glcbt- glptt- glft- glagent- glsoat- glimt- gloas- glwt-",
        r"gl(?:pat|dt|rt|cbt|ptt|ft|agent|soat|imt|oas|wt)-[0-9A-Za-z_\-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?",
    ),
    _token("SLACK_TOKEN", "xox xapp-", r"xox[abeoprs](?:\.xox[abp])?-[A-Za-z0-9\-]{10,}|xapp-[0-9]-[A-Za-z0-9\-]{10,}"),
    _token(
        "WEBHOOK_URL",
        "hooks.slack.com",
        r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,}",
    ),
    _token(
        "WEBHOOK_URL",
        "/api/webhooks/",
        r"https://(?:\w{1,10}\.)?discord(?:app)?\.com/api/webhooks/[0-9]{5,}/[\w\-]{20,}",
    ),
    _token("STRIPE_KEY", "_live_ _test_ whsec_", r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{24,}"),
    _token("TWILIO_KEY", "sk ac", r"(?:SK|AC)[0-9a-f]{32}"),
    _near("TWILIO_KEY", "twilio", r"(?i:twilio)[^\n]{0,60}?\b([0-9a-f]{32})\b"),
    _token("SENDGRID_KEY", "sg.", r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{32,64}"),
    _token("ANTHROPIC_KEY", "sk-ant-", r"sk-ant-[A-Za-z0-9_\-]{20,}"),
    _token("OPENAI_KEY", "sk-", r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_\-]{20,}|sk-[A-Za-z0-9]{32,}"),
    _token("HUGGINGFACE_TOKEN", "hf_ api_org_", r"hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{30,}"),
    _token("NPM_TOKEN", "npm_", r"npm_[A-Za-z0-9]{36,}"),
    _token("PYPI_TOKEN", "pypi-", r"pypi-[A-Za-z0-9_\-]{50,}"),
    _token("API_KEY", "sk-or-v1- gsk_", r"sk-or-v1-[0-9a-f]{60,}|gsk_[A-Za-z0-9]{40,}"),  # OpenRouter, Groq
    _token("API_KEY", "xai- r8_", r"xai-[A-Za-z0-9]{60,}|r8_[A-Za-z0-9]{37,}"),  # xAI, Replicate
    _token("API_KEY", "_v1_ dapi", r"do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}"),  # DigitalOcean, Databricks
    _token("API_KEY", "shp key-", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|key-[0-9a-f]{32}"),  # Shopify, Mailgun
    _token("API_KEY", "dckr_pat_ hvs. hvb.", r"dckr_pat_[\w\-]{20,}|hv[sb]\.[\w\-]{20,}"),  # Docker Hub, Vault
    _token("API_KEY", "lin_api_ ntn_", r"lin_api_[A-Za-z0-9]{40}|ntn_[A-Za-z0-9]{40,}"),  # Linear, Notion
    _token("API_KEY", "secret_ sq0", r"secret_[A-Za-z0-9]{43}|sq0(?:atp|csp)-[\w\-]{22,}"),  # Notion, Square
    Rule("API_KEY", (":aa",), SecretPattern(rf"{_START}(?:bot)?([0-9]{{8,10}}:AA[\w\-]{{33}})")),  # Telegram
    _token("API_KEY", "age-secret-key-", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _token("JWT", "eyj", r"eyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]{8,}){1,4}"),
    _token("PRIVATE_KEY", "ls0tls1crudj", r"LS0tLS1CRUdJ[A-Za-z0-9+/=]{20,}"),
    _near("PRIVATE_KEY", "private-lines:", r"Private-Lines: [0-9]{1,4}((?:(?:\r?\n|\\r|\\n)+[A-Za-z0-9+/=]+)+)"),
    _near("GCP_PRIVATE_KEY_ID", "private_key_id", r"private_key_id(?:[\\\"'\s:=]{1,12}| is )([0-9a-f]{40})"),
)

_KEYED = (
    _near(
        "PASSWORD",
        "sshpass",
        r"\bsshpass[ \t]+-p[ \t]*[\"']?([^\s\"'$<>-][^\s\"'<>]{2,127})",
        lambda value: not is_ordinary(value),
    ),
    _near(
        "PASSWORD",
        "mysql mariadb",
        r"\b(?:mysql(?:dump|admin|import|show|check)?|mariadb(?:-dump|-admin)?)[ \t][^\n|;]{0,128}?[ \t]-p[\"']?"
        r"([^\s\"'$<>:/-][^\s\"'<>:/]{2,127})",
        lambda value: not value.isalpha() and not value.isdigit(),
    ),
    _near(
        "PASSWORD",
        "login redis-cli",
        r"\b(?:(?:docker|podman|nerdctl|buildah|oras|helm[ \t]registry|az|oc)[ \t]{1,4}login\b[^\n|;]{0,128}?[ \t]-p"
        r"|redis-cli\b[^\n|;]{0,128}?[ \t]-a)[ \t=]{1,4}[\"']?([^\s\"'$<>-][^\s\"'<>]{2,127})",
        lambda value: not value.isalpha() and not is_ordinary(value),
    ),
    _near(
        "PASSWORD",
        "ldap mongo mosquitto zip sqlcmd net htpasswd keypass storepass pass:",
        r"(?:\b(?:ldap[a-z]{3,8}\b[^\n|;]{0,128}?[ \t]-w|mongo(?:sh|dump|restore|export|import)?\b[^\n|;]{0,128}?[ \t]-p"
        r"|(?:mosquitto_[a-z]{2,3}|(?:un)?zip|sqlcmd)\b[^\n|;]{0,128}?[ \t]-P"
        r"|net[ \t]use\b[^\n|;]{0,128}?/user:\S{1,64}|net[ \t]user[ \t]{1,4}\w{1,64}|htpasswd[ \t]{1,4}-[a-zA-Z]{0,4}b[a-zA-Z]{0,4}(?:[ \t]{1,4}[^\s|;]{1,64}){2})[ \t]{1,4}"
        r"|[ \t]-(?:src|dest)?(?:key|store)pass[ \t]{1,4}|[ \t]-pass(?:in|out)?[ \t]{1,4}pass:)"
        r"[\"']?([^\s\"'$<>/-][^\s\"'<>]{2,127})",
        lambda value: ASCII_LETTER.search(value) is not None and not value.isalpha() and not is_ordinary(value),
    ),
    _near(
        "PASSWORD",
        "sqlplus jdbc:oracle",
        r"(?:\bsqlplus[ \t]{1,4}(?:-[a-zA-Z]{1,3}[ \t]{1,4}){0,3}|jdbc:oracle:[a-z0-9]{2,5}:)[\w.$]{1,64}/([^\s@/\"'<>$]{3,64})(?:[@\s]|$)",
        lambda value: not is_ordinary(value),
    ),
    _near(
        "PASSWORD",
        "sudo",
        r"\becho[ \t]{1,4}(?:-[en]{1,2}[ \t]{1,4})?[\"']?([^\s\"'$<>|-][^\s\"'<>|]{2,127})[\"']?[ \t]{0,4}\|[ \t]{0,4}sudo[ \t]{1,4}"
        r"(?:-[a-zA-Z]{1,4}[ \t]{1,4}){0,3}?-[a-zA-Z]{0,4}S\b",
        lambda value: not is_ordinary(value),
    ),
    _near(
        "AWS_SECRET_KEY",
        "aws amazon secret akia asia",
        r"(?:(?i:aws|amazon|secret)|(?:AKIA|ASIA)[A-Z0-9]{16})"
        r"[^\n]{0,80}?[^A-Za-z0-9/+\n]([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)",
        _aws_secret,
        in_path=False,
    ),
    _near(
        "AWS_SECRET_KEY",
        "aws amazon secret akia asia",
        r"(?:(?i:aws|amazon|secret)[^\n]{0,80}|(?:AKIA|ASIA)[A-Z0-9]{16}[^\n]{0,16})\n[ \t>*\"'`]{0,8}([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)",
        _aws_secret,
        in_path=False,
    ),
    _near("AWS_SECRET_KEY", "session", r"(?i:session[_ \-]?token)[\\\"'\s:=]{1,8}([A-Za-z0-9/+=]{100,})"),
    _near("AZURE_KEY", "key= sig=", r"(?i:AccountKey|SharedAccessKey|[?&;]sig)=([A-Za-z0-9+/%]{20,}={0,2})"),
    _near(
        "API_KEY",
        "key= id= auth= signature= hmac=",
        r"[?&;](?i:key|app_?id|auth|hmac|(?:x-(?:amz|goog)-)?signature)=([A-Za-z0-9_\-.~%+/=]{16,})",
        _dense,
    ),
    Rule(
        "API_KEY",
        ("key",),
        SecretPattern(r"\b(?i:my|this|the|your|our)[ \t](?i:key)(?:[ \t]is:?|:)[ \t]{1,2}[\"'`]?([A-Za-z0-9_\-]{20,})"),
        lambda value: (
            _spoken_key(value) and not value.lower().startswith(TOKEN_STARTS)
        ),  # which may go on in the next turn
        0.8,
    ),
    _near(
        "API_KEY",
        "sess sid=",
        r"(?i:sess(?:ion)?(?:[_\-]?(?:id|key))?|(?:^|[^a-z0-9])sid)=\"?([A-Za-z0-9_\-.~%+/:=]{16,})",
        _dense,
    ),
    Rule(
        "API_KEY",
        ("key", "token", "secret", "credential"),
        SecretPattern(rf"(?i:{KEYS})[ \t]{{1,2}}[\"'`]?([A-Za-z0-9_\-./+~=%]{{20,}})"),
        _spoken_key,
        0.8,
    ),
    _near(
        "PASSWORD",
        "password passcode passphrase",
        r"(?i)\bpass(?:word|code|phrase)[ \t]{1,2}([^\s\"'`<>{}()\[\]|]{8,64})",
        _strong,
    ),
    _near(
        "PASSWORD",
        "chpasswd",
        r":([^\s\"'|:$<>{][^\s\"'|:]{2,127})[\"']?[ \t]{0,4}\|[ \t]{0,4}(?:sudo[ \t]{1,4})?chpasswd",
        lambda value: not is_ordinary(value),
    ),
    _near(
        "PASSWORD",
        "cred",
        r"(?i:\bcred(?:ential)?s?)[ \t]?[:=][ \t]{0,4}[\w.@\-]{1,64}[ \t]?[:/][ \t]?([^\s\"'$<>{}/:][^\s\"'<>{}/:]{4,63})(?:\s|$)",
        _credential_password,
    ),
    _near("CONNECTION_STRING", "defaultendpointsprotocol", r"((?i:DefaultEndpointsProtocol=https?;)[^\s\"'<>]+)"),
    _near("CONNECTION_STRING", "sharedaccesskey", r"((?i:Endpoint=sb://)[^\s\"'<>]+)"),
    _near(
        "CONNECTION_STRING",
        "://",
        _START
        + r"((?i:jdbc:)?(?i:"
        + _DATABASES
        + r")(?:\+[A-Za-z0-9]{1,16})?://[^\s\"'`<>@]{1,400}@[^\s\"'`<>]{1,400})",
        _with_password,
    ),
    _near(
        "URL_CREDENTIALS",
        "://",
        r"(?i:[a-z][a-z0-9+.\-]{0,20})://([^\s:/?#@\"'<>]{0,200}:[^\s/\"'<>]{1,200})@[^\s/@\"'<>]",
        _with_password,
    ),
    _near("URL_CREDENTIALS", "://", r"(?i:https?|git|ssh)://([A-Za-z0-9_\-.~%]{16,})@[^\s/@\"'<>]", keylike),
    _near(
        "URL_CREDENTIALS",
        "-u --user",
        r"(?:^|\s)(?:-u|--user|--proxy-user)[ =][\"']?([^\s:\"'/]{1,64}:[^\s\"'/]{1,128})",
        _credential,
    ),
    _near("BEARER_TOKEN", "bearer", r"(?i:\bbearer)[ \t]+([A-Za-z0-9_\-.~+/%]{16,}={0,2})", keylike),
    _near("BEARER_TOKEN", "basic", r"(?i:\bbasic)[ \t]+([A-Za-z0-9+/]{8,}={0,2})", _random_base64),
    _near(
        "BEARER_TOKEN",
        "authorization",
        r"(?i:authorization)[\\\"']{0,4}[ \t]{0,3}[:=,][ \t]{0,3}[\\\"']{0,4}"
        r"(?i:basic|bearer|token|apikey|key|digest)?[ \t]{0,3}([A-Za-z0-9_\-.~+/%]{8,}={0,2})",
        keylike,
    ),
)


def secret_sources() -> list[Source]:
    """What a gate needs to know of each rule; `find_secrets` takes its bits in this order."""
    patterns = [*(rule.pattern for rule in _RULES), _BEGIN, HEADING, *(one.pattern for one in ASSIGNED)]
    return [Source(((pattern.pattern, 0),)) for pattern in patterns]


def find_secrets(text: str, fired: int | None = None) -> list[Finding]:
    """All findings, in no order; they may overlap. Only the rules that are set in the bits of `fired` run."""
    bits = sum(1 << number for number in _running(text)) if fired is None else fired
    return [one for _, one in find_all_secrets({text: bits})]


def find_all_secrets(fired: Mapping[str, int]) -> Iterator[tuple[str, Finding]]:
    """The findings of all texts, each with its text: rule by rule, whose automata stay in the processor's cache."""
    texts: dict[int, list[str]] = {}
    for text, bits in fired.items():
        for number in _numbers(bits):
            texts.setdefault(number, []).append(text)
    return ((text, one) for number, some in texts.items() for text in some for one in _found(text, number))


def _found(text: str, number: int) -> Iterator[Finding]:
    """What one rule finds, by its place among the `secret_sources`."""
    if number < len(_RULES):
        rule = _RULES[number]
        for start, end in rule.spans(text):
            yield Finding(start, end, rule.entity, rule.score, True)
    elif number == len(_RULES):
        for start, end in _private_keys(text):
            yield Finding(start, end, "PRIVATE_KEY", 1.0, True)
    elif number == len(_RULES) + 1:
        yield from find_columns(text)
    else:
        yield from find_assigned(ASSIGNED[number - len(_RULES) - 2], text)


def _running(text: str) -> Iterator[int]:
    """The rules one of whose needles is in the text."""
    folded = text.casefold()
    needles = [
        *(rule.needles for rule in _RULES),
        ("private key",),
        ("pass", "pwd", "senha"),
        *(one.needles for one in ASSIGNED),
    ]
    return (number for number, some in enumerate(needles) if any(needle in folded for needle in some))


def _numbers(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


_RULES = (*_TOKENS, *_KEYED)
_BEGIN = SecretPattern(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END [A-Z0-9 ]{1,60}-----")
_KEY_BYTES = 32 << 10  # 32 KiB: the longest private key looked for
_HEADERS = r"(?:(?:\s|\\+[nrt])*(?:Proc-Type|DEK-Info|Version|Comment): ?[^\n\\]{0,80})*"
_GAP = r"(?:\s|\\+[nrt]|%0[AaDd]|<br ?/?>|[\"',>])"  # `>` begins the lines of a quoted message
_LINES = rf"(?:{_GAP}*[A-Za-z0-9+/=]{{16,}}(?:{_GAP}+[A-Za-z0-9+/=]{{16,}})*)?"
_BODY = re.compile(
    _HEADERS
    + _LINES
    + r"(?:(?:\r?\n(?:> ?){0,9}|(?:\\+[nr]){1,2}|(?:%0[AaDd]){1,2}|<br ?/?>)[A-Za-z0-9+/=]{1,15}(?=\s*$|[\r\n\"'\\%<]))?"
)


def _private_keys(text: str) -> Iterator[Span]:
    """From BEGIN to END; without an END as far as base64 goes."""
    starts = [spans[0] for spans in _BEGIN.spans(text)]
    ends = [start for start, _ in starts[1:]] + [len(text)]
    for (start, body), following in zip(starts, ends[: len(starts)], strict=True):
        end = _END.search(text, body, min(body + _KEY_BYTES, following))
        if end is not None:
            yield start, end.end()
        else:
            cut = _BODY.match(text, body)
            yield start, cut.end() if cut is not None else body


# What tokens begin with, or nearly, in small letters.
TOKEN_STARTS: tuple[str, ...] = tuple(
    needle for rule in _TOKENS if rule.score == 1.0 for needle in rule.needles if re.fullmatch(r"[\w./\-]{3,}", needle)
)
SECRET_ENTITIES = frozenset(
    {rule.entity for rule in (*_TOKENS, *_KEYED)} | {one.entity for one in ASSIGNED} | {"PRIVATE_KEY"}
)
