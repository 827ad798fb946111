"""Values to plant: one function an entity type, drawn from a seeded `random.Random`, in the ways people write them.

Checksums are computed here from the published rules, not by the recognizers that are measured.
"""

from __future__ import annotations

import base64
import string
from collections.abc import Callable, Sequence
from random import Random

Maker = Callable[[Random], str]

_UPPER, _LOWER, _DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
_ALNUM = _UPPER + _LOWER + _DIGITS
_HEX = "0123456789abcdef"
FIRST = (
    "maria james wei fatima olu ingrid pedro anna yuki tom nadia george lena raj sofia ahmed chloe ivan grace".split()
)
LAST = (
    "lopez smith chen haddad adeyemi larsen silva kowalski tanaka reed petrova brown fischer patel rossi khan".split()
)
_WORDS = "blue river stone maple orbit cedar pixel harbor delta amber quartz meadow falcon ember willow".split()


def draw(chooser: Random, alphabet: str, count: int) -> str:
    """`count` characters of `alphabet`."""
    return "".join(chooser.choices(alphabet, k=count))


def _pick(chooser: Random, *formats: str) -> str:
    return chooser.choice(formats)


def _fill(chooser: Random, pattern: str) -> str:
    """`#` becomes a digit, `A` stays; `%` a digit from 1 to 9."""
    return "".join(
        chooser.choice(_DIGITS) if one == "#" else chooser.choice("123456789") if one == "%" else one for one in pattern
    )


def _mixed(chooser: Random, alphabet: str, count: int) -> str:
    """Like `draw`, with an upper-case letter, a lower-case one and a digit."""
    value = list(draw(chooser, alphabet, count))
    value[1], value[2], value[3] = chooser.choice(_UPPER), chooser.choice(_LOWER), chooser.choice(_DIGITS)
    return "".join(value)


# ------------------------------------------------------------------------------------------- check digits


def luhn(digits: str) -> str:
    """`digits` and the check digit of ISO/IEC 7812-1."""
    total = 0
    for index, one in enumerate(reversed(digits)):
        value = int(one) * (1 if index % 2 else 2)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(one) * weight for one, weight in zip(digits, weights, strict=True))


_D5 = [
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678"),
    *("5987604321", "6598710432", "7659821043", "8765932104", "9876543210"),
]
_PERMUTED = ["0123456789", "1576283094"]
for _ in range(6):
    _PERMUTED.append("".join(_PERMUTED[1][int(one)] for one in _PERMUTED[-1]))


def verhoeff(digits: str) -> str:
    """`digits` and their check digit (Verhoeff 1969)."""
    check = 0
    for index, one in enumerate(reversed(digits)):
        check = int(_D5[check][int(_PERMUTED[(index + 1) % 8][int(one)])])
    return digits + next(str(one) for one in range(10) if _D5[check][one] == "0")


# ------------------------------------------------------------------------------------------- generic types


def email(chooser: Random) -> str:
    first, last = chooser.choice(FIRST), chooser.choice(LAST)
    local = chooser.choice(
        [f"{first}.{last}", f"{first[0]}{last}", f"{first}_{last}{chooser.randrange(100)}", f"{first}+news", first]
    )
    domain = chooser.choice(
        ["gmail.com", "outlook.com", "example.org", "mail.example.co.uk", "acme-corp.io", "uni-koeln.de", "proton.me"]
    )
    address = f"{local}@{domain}"
    return address.upper() if chooser.random() < 0.05 else address


_AREAS = "212 415 617 312 206 512 305 702 303 404 503 646 718 713 214 619 813 916".split()


def phone(chooser: Random) -> str:
    if chooser.random() < 0.65:
        area = chooser.choice(_AREAS)
        exchange, line = _fill(chooser, "%##"), _fill(chooser, "####")
        if exchange[0] == "1" or exchange.endswith("11"):
            exchange = "8" + exchange[1] + "4"
        form = _pick(
            chooser,
            *("({a}) {e}-{l}", "{a}-{e}-{l}", "{a}.{e}.{l}", "+1 {a} {e} {l}", "+1 ({a}) {e}-{l}", "+1{a}{e}{l}"),
            *("1-{a}-{e}-{l}", "{a} {e} {l}", "+1-{a}-{e}-{l}", "({a}){e}-{l}"),
        )
        return form.format(a=area, e=exchange, l=line)
    return _fill(
        chooser,
        _pick(
            chooser,
            *("+44 20 7946 0###", "020 7946 0###", "07700 900###", "+44 7700 900###", "+447700900###", "0161 496 0###"),
            *("+49 30 2345 6%##", "+33 1 42 68 53 ##", "+91 98765 4####", "+61 2 9876 54##", "+81 3-1234-5%##"),
        ),
    )


def card(chooser: Random) -> str:
    network = chooser.choice(["4", "51", "52", "53", "54", "55", "2221", "6011", "34", "37"])
    amex = network in ("34", "37")
    number = luhn(network + draw(chooser, _DIGITS, (14 if amex else 15) - len(network)))
    separator = chooser.choice(["", " ", "-"])
    cuts = (0, 4, 10, 15) if amex else (0, 4, 8, 12, 16)
    return separator.join(number[start:end] for start, end in zip(cuts, cuts[1:], strict=False))


_IBANS = {"GB": "AAAA" + "#" * 14, "DE": "#" * 18, "FR": "#" * 10 + "A" * 11 + "##", "ES": "#" * 20, "NL": "AAAA" + "#" * 10,
          "IT": "A" + "#" * 10 + "A" * 12, "CH": "#" * 5 + "A" * 12, "PL": "#" * 24, "BE": "#" * 12}  # fmt: skip


def iban(chooser: Random) -> str:
    country = chooser.choice(sorted(_IBANS))
    account = "".join(chooser.choice(_DIGITS if one == "#" else _UPPER) for one in _IBANS[country])
    if country in ("FR", "IT", "CH"):  # the tail is alphanumeric, and nearly always digits
        account = "".join(one if index < 1 else str(ord(one) % 10) for index, one in enumerate(account))
        account = ("X" if country == "IT" else "1") + account[1:]
    number = int("".join(str(int(one, 36)) for one in account + country + "00"))
    value = f"{country}{98 - number % 97:02d}{account}"
    form = chooser.random()
    if form < 0.5:
        return " ".join(value[start : start + 4] for start in range(0, len(value), 4))
    return value.lower() if form > 0.95 else value


def ip(chooser: Random) -> str:
    if chooser.random() < 0.7:
        first = chooser.choice([10, 34, 52, 81, 93, 142, 172, 185, 192, 203])
        return ".".join(map(str, [first, *(chooser.randint(1, 254) for _ in range(3))]))
    groups = [f"{chooser.randint(0x1000, 0xFFFF):x}" for _ in range(6)]
    if chooser.random() < 0.5:
        return ":".join(["2001", "db8", *groups])
    return ":".join(["2a02", *groups[:2]]) + "::" + groups[3]


def mac(chooser: Random) -> str:
    pairs = [draw(chooser, _HEX, 2) for _ in range(6)]
    value = chooser.choice([":", "-"]).join(pairs)
    return value.upper() if chooser.random() < 0.5 else value


_B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def _base58check(payload: bytes) -> str:
    import hashlib

    whole = payload + hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(whole, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = _B58[rest] + text
    return "1" * (len(whole) - len(whole.lstrip(b"\0"))) + text


_BECH = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _bech32(chooser: Random) -> str:
    """A version 0 witness address (BIP 173)."""
    data = [0, *(chooser.randrange(32) for _ in range(31)), 0]
    expanded = [3, 3, 0, 2, 3, *data, *[0] * 6]
    check = 1
    for value in expanded:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    check ^= 1
    return "bc1" + "".join(_BECH[one] for one in [*data, *(check >> 5 * (5 - place) & 31 for place in range(6))])


def crypto(chooser: Random) -> str:
    kind = chooser.random()
    if kind < 0.4:
        return _base58check(chooser.choice([b"\x00", b"\x05"]) + chooser.randbytes(20))
    if kind < 0.6:
        return _bech32(chooser)
    return "0x" + "".join(chooser.choice((one, one.upper())) for one in draw(chooser, _HEX, 40))


# ------------------------------------------------------------------------------------------- national identifiers


def ssn(chooser: Random) -> str:
    area = chooser.choice([_fill(chooser, "%##") for _ in range(9)])
    area = "123" if area in ("666",) or area >= "900" else area
    return f"{area}-{chooser.randint(10, 99)}-{chooser.randint(1000, 9999)}"


def itin(chooser: Random) -> str:
    return f"9{_fill(chooser, '##')}-{chooser.choice([70, 72, 78, 81, 85, 88, 92, 94, 97])}-{_fill(chooser, '####')}"


def nhs(chooser: Random) -> str:
    while True:
        body = _fill(chooser, "%########")
        check = -_weighted(body, range(10, 1, -1)) % 11
        if check < 10:
            value = body + str(check)
            return f"{value[:3]} {value[3:6]} {value[6:]}" if chooser.random() < 0.7 else value


def npi(chooser: Random) -> str:
    return luhn("80840" + _fill(chooser, "1########"))[5:]


def aba(chooser: Random) -> str:
    body = f"{chooser.randint(1, 12):02d}" + _fill(chooser, "######")
    return body + str(-_weighted(body, (3, 7, 1, 3, 7, 1, 3, 7)) % 10)


def dea(chooser: Random) -> str:
    body = _fill(chooser, "######")
    check = (_weighted(body[::2], (1, 1, 1)) + 2 * _weighted(body[1::2], (1, 1, 1))) % 10
    return f"{chooser.choice('ABFM')}{chooser.choice(_UPPER)}{body}{check}"


def mbi(chooser: Random) -> str:
    letters = "ACDEFGHJKMNPQRTUVWXY"
    either = letters + _DIGITS
    value = "".join(
        chooser.choice({"C": "123456789", "A": letters, "N": _DIGITS, "X": either}[one]) for one in "CAXNAXNAANN"
    )
    return f"{value[:4]}-{value[4:7]}-{value[7:]}" if chooser.random() < 0.5 else value


def nino(chooser: Random) -> str:
    first = f"{chooser.choice('ABCEGHJKLMNPRSTWXYZ')}{chooser.choice('ABCEGHJKLMNPRSTWXYZ')}"
    first = "AB" if first in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ") else first
    digits, last = _fill(chooser, "######"), chooser.choice("ABCD")
    if chooser.random() < 0.5:
        return f"{first} {digits[:2]} {digits[2:4]} {digits[4:]} {last}"
    return first + digits + last


def uk_licence(chooser: Random) -> str:
    name = chooser.choice(LAST).upper()[:5].ljust(5, "9")
    born = f"{chooser.randint(4, 9)}{chooser.randint(1, 12):02d}{chooser.randint(1, 28):02d}{chooser.randint(0, 9)}"
    return f"{name}{born}{chooser.choice(_UPPER)}{chooser.choice(_UPPER + '9')}9{draw(chooser, _UPPER, 2)}"


def pesel(chooser: Random) -> str:
    body = f"{chooser.randint(50, 99)}{chooser.randint(1, 12):02d}{chooser.randint(1, 28):02d}" + _fill(chooser, "####")
    return body + str(-_weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"


def nif(chooser: Random) -> str:
    number = _fill(chooser, "%#######")
    return number + _DNI[int(number) % 23]


def nie(chooser: Random) -> str:
    first, number = chooser.choice("XYZ"), _fill(chooser, "#######")
    return first + number + _DNI[int(str("XYZ".index(first)) + number) % 23]


def aadhaar(chooser: Random) -> str:
    value = verhoeff(chooser.choice("23456789") + _fill(chooser, "##########"))
    return f"{value[:4]} {value[4:8]} {value[8:]}" if chooser.random() < 0.5 else value


def tfn(chooser: Random) -> str:
    while True:
        value = _fill(chooser, "%########")
        if _weighted(value, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0:
            return f"{value[:3]} {value[3:6]} {value[6:]}"


def abn(chooser: Random) -> str:
    while True:
        value = _fill(chooser, "%##########")
        if (_weighted(value, (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) - 10) % 89 == 0:
            return f"{value[:2]} {value[2:5]} {value[5:8]} {value[8:]}"


def german_tax(chooser: Random) -> str:
    """One digit of the first ten is there twice and one is missing; the last by ISO/IEC 7064, MOD 11,10."""
    digits = chooser.sample(_DIGITS, 9)
    digits.append(digits[0])
    chooser.shuffle(digits)
    if digits[0] == "0":
        digits[0], digits[-1] = digits[-1], digits[0]
    if digits[0] == "0":
        return german_tax(chooser)
    product = 10
    for one in digits:
        product = ((int(one) + product) % 10 or 10) * 2 % 11
    return "".join(digits) + str((11 - product) % 10)


def hetu(chooser: Random) -> str:
    body = f"{chooser.randint(1, 28):02d}{chooser.randint(1, 12):02d}{chooser.randint(40, 99)}"
    number = f"{chooser.randint(2, 899):03d}"
    return f"{body}-{number}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(body + number) % 31]}"


def personnummer(chooser: Random) -> str:
    body = f"{chooser.randint(40, 99)}{chooser.randint(1, 12):02d}{chooser.randint(1, 28):02d}" + _fill(chooser, "###")
    whole = luhn(body)
    return f"{whole[:6]}-{whole[6:]}"


def thai(chooser: Random) -> str:
    body = f"{chooser.randint(1, 8)}{chooser.choice([10, 30, 40, 50, 60, 70, 80, 90])}" + _fill(chooser, "#########")
    return body + str((11 - _weighted(body, range(13, 1, -1)) % 11) % 10)


def turkish(chooser: Random) -> str:
    body = _fill(chooser, "%########")
    tenth = (7 * _weighted(body[::2], (1,) * 5) - _weighted(body[1::2], (1,) * 4)) % 10
    return f"{body}{tenth}{(sum(map(int, body)) + tenth) % 10}"


def rsa_id(chooser: Random) -> str:
    born = f"{chooser.randint(40, 99)}{chooser.randint(1, 12):02d}{chooser.randint(1, 28):02d}"
    return luhn(born + _fill(chooser, "####") + "08")


# ------------------------------------------------------------------------------------------- secrets


def password(chooser: Random) -> str:
    word = chooser.choice(_WORDS)
    return chooser.choice(
        [
            f"{word.title()}{chooser.randint(10, 9999)}!",
            f"{word}#{chooser.choice(_WORDS)}{chooser.randint(1, 99)}",
            _mixed(chooser, _ALNUM, 12),
            f"P@{word}{chooser.randint(100, 999)}",
        ]
    )


def _jwt(chooser: Random) -> str:
    parts = [b'{"alg":"HS256","typ":"JWT"}', f'{{"sub":"{_fill(chooser, "######")}"}}'.encode(), chooser.randbytes(32)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _pem(chooser: Random) -> str:
    kind = chooser.choice(["RSA ", "EC ", "", "OPENSSH "])
    body = base64.b64encode(chooser.randbytes(144)).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    newline = chooser.choice(["\n", "\n", "\\n", "\n> ", "<br>"])
    end = [f"-----END {kind}PRIVATE KEY-----"] if chooser.random() < 0.8 else []  # else cut
    return newline.join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, *end])


def _base64_key(chooser: Random, size: int) -> str:
    return base64.b64encode(chooser.randbytes(size)).decode()


def _connection(chooser: Random) -> str:
    scheme = chooser.choice(["postgres", "postgresql", "mysql", "mongodb+srv", "redis", "amqp", "sftp"])
    host = f"{chooser.choice(_WORDS)}-db.internal.example.com"
    kind = chooser.random()
    if kind < 0.7:
        secret = _mixed(chooser, _ALNUM, 14)
        return f"{scheme}://{chooser.choice(FIRST)}:{secret}@{host}:5432/{chooser.choice(_WORDS)}"
    if kind < 0.85:
        return (
            f"DefaultEndpointsProtocol=https;AccountName={chooser.choice(_WORDS)};"
            f"AccountKey={_base64_key(chooser, 64)};EndpointSuffix=core.windows.net"
        )
    return (
        f"Endpoint=sb://{chooser.choice(_WORDS)}.servicebus.windows.net/;SharedAccessKeyName=Root;"
        f"SharedAccessKey={_base64_key(chooser, 32)}"
    )


def _prefixed(*formats: str) -> Maker:
    """`PREFIX|count|alphabet`: a prefix and random characters; alphabets a (any), h (hex), u (upper), w (any, - and _)."""
    alphabets = {"a": _ALNUM, "h": _HEX, "u": _UPPER + "234567", "w": _ALNUM + "-_", "d": _DIGITS}

    def make(chooser: Random) -> str:
        parts = chooser.choice(formats).split("|")
        value = parts[0]
        for count, alphabet, *rest in zip(parts[1::3], parts[2::3], parts[3::3] or [""], strict=False):
            body = (_mixed if alphabet in "aw" and int(count) > 5 else draw)(chooser, alphabets[alphabet], int(count))
            value += body[:-1] + "x" + "".join(rest) if alphabet == "w" else body + "".join(rest)
        return value

    return make


MAKERS: dict[str, Maker] = {
    "EMAIL_ADDRESS": email,
    "PHONE_NUMBER": phone,
    "CREDIT_CARD": card,
    "IBAN_CODE": iban,
    "IP_ADDRESS": ip,
    "MAC_ADDRESS": mac,
    "CRYPTO": crypto,
    "US_SSN": ssn,
    "US_ITIN": itin,
    "US_BANK_NUMBER": lambda chooser: _fill(chooser, "%" + "#" * chooser.choice([8, 9, 11])),
    "US_DRIVER_LICENSE": lambda chooser: (
        chooser.choice(_UPPER) + _fill(chooser, chooser.choice(["#######", "############"]))
    ),
    "US_PASSPORT": lambda chooser: _fill(chooser, chooser.choice(["%########", "A########"])),
    "US_MBI": mbi,
    "US_NPI": npi,
    "ABA_ROUTING_NUMBER": aba,
    "MEDICAL_LICENSE": dea,
    "UK_NHS": nhs,
    "UK_NINO": nino,
    "UK_DRIVING_LICENCE": uk_licence,
    "UK_PASSPORT": lambda chooser: draw(chooser, _UPPER, 2) + _fill(chooser, "#######"),
    "PL_PESEL": pesel,
    "ES_NIF": nif,
    "ES_NIE": nie,
    "IN_AADHAAR": aadhaar,
    "AU_TFN": tfn,
    "AU_ABN": abn,
    "DE_TAX_ID": german_tax,
    "FI_PERSONAL_IDENTITY_CODE": hetu,
    "SE_PERSONNUMMER": personnummer,
    "TH_TNIN": thai,
    "TR_NATIONAL_ID": turkish,
    "ZA_ID_NUMBER": rsa_id,
    "AWS_ACCESS_KEY": _prefixed("AKIA|16|u", "ASIA|16|u"),
    "AWS_SECRET_KEY": lambda chooser: _mixed(chooser, _ALNUM + "/+", 39) + chooser.choice(_ALNUM),
    "GCP_API_KEY": _prefixed("AIza|35|w"),
    "GCP_TOKEN": _prefixed("ya29.|80|w", "GOCSPX-|28|w"),
    "GCP_PRIVATE_KEY_ID": _prefixed("|40|h"),
    "AZURE_KEY": lambda chooser: chooser.choice(
        [_base64_key(chooser, 64), draw(chooser, _ALNUM, 3) + "8Q~" + _mixed(chooser, _ALNUM, 33)]
    ),
    "GITHUB_TOKEN": _prefixed("ghp_|36|a", "gho_|36|a", "ghs_|36|a", "github_pat_|22|a|_|59|a"),
    "GITLAB_TOKEN": _prefixed("glpat-|20|w", "gldt-|20|w"),
    "SLACK_TOKEN": lambda chooser: "-".join(
        [
            chooser.choice(["xoxb", "xoxp"]),
            draw(chooser, _DIGITS, 12),
            draw(chooser, _DIGITS, 12),
            _mixed(chooser, _ALNUM, 24),
        ]
    ),
    "STRIPE_KEY": _prefixed("sk_live_|24|a", "rk_live_|24|a", "sk_test_|24|a", "whsec_|32|a"),
    "TWILIO_KEY": _prefixed("SK|32|h", "AC|32|h"),
    "SENDGRID_KEY": lambda chooser: f"SG.{_mixed(chooser, _ALNUM, 22)}.{_mixed(chooser, _ALNUM, 43)}",
    "ANTHROPIC_KEY": _prefixed("sk-ant-api03-|93|w"),
    "OPENAI_KEY": _prefixed("sk-proj-|48|w", "sk-|48|a"),
    "HUGGINGFACE_TOKEN": _prefixed("hf_|34|a"),
    "NPM_TOKEN": _prefixed("npm_|36|a"),
    "PYPI_TOKEN": _prefixed("pypi-AgEIcHlwaS5vcmc|120|w"),
    "WEBHOOK_URL": lambda chooser: (
        f"https://hooks.slack.com/services/T{draw(chooser, _UPPER + _DIGITS, 8)}/B{draw(chooser, _UPPER + _DIGITS, 8)}/"
        + _mixed(chooser, _ALNUM, 24)
    ),
    "JWT": _jwt,
    "PRIVATE_KEY": _pem,
    "CONNECTION_STRING": _connection,
    "URL_CREDENTIALS": lambda chooser: f"{chooser.choice(FIRST)}:{_mixed(chooser, _ALNUM, 11)}",
    "BEARER_TOKEN": lambda chooser: _mixed(chooser, _ALNUM + "-_", 39) + "k",
    "PASSWORD": password,
    "PIN": lambda chooser: _fill(chooser, "####"),
    "API_KEY": lambda chooser: chooser.choice(
        [_mixed(chooser, _ALNUM, 32), draw(chooser, _HEX, 31) + "7", draw(chooser, _UPPER + _LOWER, 32)]
    ),
    "PERSON": lambda chooser: f"{chooser.choice(FIRST)} {chooser.choice(LAST)}".title(),
    "LOCATION": lambda chooser: (
        f"{chooser.randint(2, 999)} {chooser.choice(_WORDS).title()} {chooser.choice(['Street', 'Avenue', 'Road'])}, "
        f"{chooser.choice(['Springfield', 'Leeds', 'Austin', 'Bristol'])}"
    ),
}

STRUCTURED = (
    *("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS", "CRYPTO"),
    *("US_NPI", "ABA_ROUTING_NUMBER", "MEDICAL_LICENSE", "UK_NHS"),
)  # formats or checksums of their own
CONTEXTUAL = (
    *("US_SSN", "US_ITIN", "US_BANK_NUMBER", "US_DRIVER_LICENSE", "US_PASSPORT", "US_MBI"),
    *("UK_NINO", "UK_DRIVING_LICENCE", "UK_PASSPORT"),
)  # told by a shape or the words around them
ABROAD = tuple(name for name in MAKERS if name[:3] in {f"{one}_" for one in "PL ES IN AU DE FI SE TH TR ZA".split()})
PREFIXED = (
    *("AWS_ACCESS_KEY", "GCP_API_KEY", "GCP_TOKEN", "AZURE_KEY", "GITHUB_TOKEN", "GITLAB_TOKEN", "SLACK_TOKEN"),
    *("STRIPE_KEY", "TWILIO_KEY", "SENDGRID_KEY", "ANTHROPIC_KEY", "OPENAI_KEY", "HUGGINGFACE_TOKEN", "NPM_TOKEN"),
    *("PYPI_TOKEN", "WEBHOOK_URL", "JWT", "PRIVATE_KEY", "CONNECTION_STRING"),
)
KEYED = ("AWS_SECRET_KEY", "GCP_PRIVATE_KEY_ID", "URL_CREDENTIALS", "BEARER_TOKEN", "PASSWORD", "PIN", "API_KEY")
NAMES = ("PERSON", "LOCATION")
