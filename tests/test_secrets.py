"""Secrets: what is found, how much of it, and what is left. All values are made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.assigned import secret_field
from transforms.columns import find_columns
from transforms.placeholders import merge_findings
from transforms.secrets import SECRET_ENTITIES, find_secrets

HEX = "9f86d081884c7d659a2feaa0c55ad015"
ALNUM = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hJ6"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAt0\nq83vLmNpQrStUvWxYz0123\n-----END RSA PRIVATE KEY-----"
OPENSSH = PEM.replace("RSA", "OPENSSH")
LETTERS = "qZrTbWkXpLmNsDfGhJcVqZrT"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

TOKENS = [
    ("AWS_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
    ("GCP_API_KEY", "AIza" + ALNUM[:35]),
    ("GCP_TOKEN", "ya29." + ALNUM),
    ("AZURE_KEY", (ALNUM * 3)[:86] + "=="),
    ("GITHUB_TOKEN", "ghp_" + ALNUM),
    ("GITHUB_TOKEN", "github_pat_" + ALNUM[:22] + "_" + ALNUM),
    ("GITLAB_TOKEN", "glpat-" + ALNUM[:20]),
    ("SLACK_TOKEN", "xoxb-123456789012-1234567890123-" + ALNUM[:24]),
    ("WEBHOOK_URL", "https://hooks.slack.com/services/T00000000/B00000000/" + ALNUM[:24]),
    ("STRIPE_KEY", "sk_live_" + ALNUM[:24]),
    ("TWILIO_KEY", "SK" + HEX),
    ("SENDGRID_KEY", f"SG.{ALNUM[:22]}.{ALNUM}{ALNUM[:7]}"),
    ("OPENAI_KEY", "sk-proj-" + ALNUM),
    ("OPENAI_KEY", "sk-" + ALNUM + ALNUM[:12]),
    ("ANTHROPIC_KEY", "sk-ant-api03-" + ALNUM),
    ("HUGGINGFACE_TOKEN", "hf_" + ALNUM[:34]),
    ("NPM_TOKEN", "npm_" + ALNUM),
    ("PYPI_TOKEN", "pypi-AgEIcHlwaS5vcmc" + ALNUM * 2),
    ("JWT", JWT),
    ("PRIVATE_KEY", PEM),
    ("PRIVATE_KEY", PEM.replace("\n", "\\n")),
    ("PRIVATE_KEY", OPENSSH),
    ("CONNECTION_STRING", "postgres://app:s3cr3t@db.internal:5432/orders"),
    ("CONNECTION_STRING", "mongodb+srv://app:s3cr3t@cluster0.example.net/test?retryWrites=true"),
    ("CONNECTION_STRING", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=" + (ALNUM * 3)[:86] + "=="),
]
AROUND = [
    "{}",
    "use {} please",
    "API key {}",
    "my token {}.",
    "It is {}.",
    "({}), I think",
    "a={}, b=2",
    '"{}"',
    "key:\n{}\nthanks",
    "x\\n{}\\ny",
]


def found(text: str) -> list[tuple[str, str]]:
    return [(one.entity, text[one.start : one.end]) for one in merge_findings(find_secrets(text))]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize(("entity", "token"), TOKENS, ids=lambda value: value[:12])
def test_a_token_is_found_whole_wherever_it_ends(entity: str, token: str, around: str) -> None:
    (one,) = found(around.format(token))
    assert one[0] == entity
    if entity in ("CONNECTION_STRING", "PRIVATE_KEY"):  # what follows without a gap may belong to it
        assert token in one[1]
    else:
        assert one[1] == token


@pytest.mark.parametrize(
    ("text", "entity", "secret"),
    [
        (f"aws_secret_access_key = {AWS_SECRET}", "AWS_SECRET_KEY", AWS_SECRET),
        (f"my AWS secret is {AWS_SECRET}.", "AWS_SECRET_KEY", AWS_SECRET),
        (f"AKIAIOSFODNN7EXAMPLE,{AWS_SECRET}", "AWS_SECRET_KEY", AWS_SECRET),
        (f"Twilio auth token {HEX}", "TWILIO_KEY", HEX),
        (f'"private_key_id": "{HEX}{HEX[:8]}"', "GCP_PRIVATE_KEY_ID", HEX + HEX[:8]),
        ("https://bob:hunter2@example.com/x", "URL_CREDENTIALS", "bob:hunter2"),
        ("https://bob:p@ss@example.com/x", "URL_CREDENTIALS", "bob:p@ss"),
        ("curl -u bob:hunter2 https://example.com", "URL_CREDENTIALS", "bob:hunter2"),
        ("password = hunter2", "PASSWORD", "hunter2"),
        ("password: hunter2.", "PASSWORD", "hunter2"),
        ("Password: P@ssword!, ok?", "PASSWORD", "P@ssword!"),
        ("my password is Tr0ub4dor&3, thanks", "PASSWORD", "Tr0ub4dor&3"),
        ("the password for the wifi is blue42cat.", "PASSWORD", "blue42cat"),
        ('password = "correct horse battery staple"', "PASSWORD", "correct horse battery staple"),
        ('{\\"password\\": \\"correcthorse\\"}', "PASSWORD", "correcthorse"),
        ("DB_PASSWORD=correcthorse", "PASSWORD", "correcthorse"),
        ("?user=bob&password=correcthorse&x=1", "PASSWORD", "correcthorse"),
        ("Server=x;Uid=sa;Pwd=swordfish;", "PASSWORD", "swordfish"),
        ("my pin is 4821", "PIN", "4821"),
        (f"api_key: {ALNUM}", "API_KEY", ALNUM),
        (f'const apiKey = "{ALNUM}";', "API_KEY", ALNUM),
        (f"X-Api-Key: {ALNUM}", "API_KEY", ALNUM),
        (f"Authorization: Bearer {ALNUM}.", "BEARER_TOKEN", ALNUM),
        ("mysqldump --password hunter2 db", "PASSWORD", "hunter2"),
        ("mysqldump --password='correct horse' db", "PASSWORD", "correct horse"),
        ("gpg --batch --key-passphrase blue42cat", "PASSWORD", "blue42cat"),
        ("keytool --store-pass hunter2", "PASSWORD", "hunter2"),
        ('["--password", "correcthorse"]', "PASSWORD", "correcthorse"),
        (f"cli --api-key {ALNUM} ls", "API_KEY", ALNUM),
        (f"cli --auth-token={ALNUM}", "API_KEY", ALNUM),
        ("<password>correcthorse</password>", "PASSWORD", "correcthorse"),
        ("<wsse:Password>hunter2</wsse:Password>", "PASSWORD", "hunter2"),
        ("<db.password>blue cat</db.password>", "PASSWORD", "blue cat"),
        (f"<apiKey>{ALNUM}</apiKey>", "API_KEY", ALNUM),
        ('<add key="Password" value="correcthorse"/>', "PASSWORD", "correcthorse"),
        ("sshpass -p hunter2 ssh bob@host", "PASSWORD", "hunter2"),
        ("docker login -u bob -p Sup3rS3cret reg.io", "PASSWORD", "Sup3rS3cret"),
        ("define('DB_PASSWORD', 'l!6uBGu^+5Yv');", "PASSWORD", "l!6uBGu^+5Yv"),
        ("define( 'AUTH_KEY', 'x#9k$2(m!q@z^w*7&v-5+t' );", "API_KEY", "x#9k$2(m!q@z^w*7&v-5+t"),
        ("ENV DB_PASSWORD Cz+&5?B3w7AgQ", "PASSWORD", "Cz+&5?B3w7AgQ"),
        ("requirepass F@io0x0rrj", "PASSWORD", "F@io0x0rrj"),
        ("SET PASSWORD FOR jo = 'Zq8!xx';", "PASSWORD", "Zq8!xx"),
        ("| **Password** | `ZlI1wTeoR@wS` |", "PASSWORD", "ZlI1wTeoR@wS"),
        ("user jo with password fCH^spP2nh2q-f", "PASSWORD", "fCH^spP2nh2q-f"),
        ("use password 9wgzKq2mTr to log in", "PASSWORD", "9wgzKq2mTr"),
        ("la mia password è Gatto2020!", "PASSWORD", "Gatto2020!"),
        ("the password for the vpn is h@!Gjvtt&T=20wK", "PASSWORD", "h@!Gjvtt&T=20wK"),
        ("DB_PASSWORD=C&wQul6dmej=Sx4r", "PASSWORD", "C&wQul6dmej=Sx4r"),
        ("sshpass -p 'iBEIPyGL$JBaJ' ssh jo@host", "PASSWORD", "iBEIPyGL$JBaJ"),
        ("mysql -u root -p'iBEIPyGL$JBaJ' db", "PASSWORD", "iBEIPyGL$JBaJ"),
        ("docker login -u joe -p iBEIPyGL$JBaJ reg.io", "PASSWORD", "iBEIPyGL$JBaJ"),
        ("redis-cli -h host -a x9$tailQ7 ping", "PASSWORD", "x9$tailQ7"),
        ("DB_PASSWORD=abC9;dEf7", "PASSWORD", "abC9;dEf7"),
        ("PGPASSWORD=x9y8z7;psql -h db", "PASSWORD", "x9y8z7"),
        ("PASSWORD_PROD=hUnt3r!x", "PASSWORD", "hUnt3r!x"),
        ("$dbpass = 'hUnter2!x9';", "PASSWORD", "hUnter2!x9"),
        ("smtpPass: Zq8!xx77Kd9f", "PASSWORD", "Zq8!xx77Kd9f"),
        ("ENV DB_PASS hUnter2!x9", "PASSWORD", "hUnter2!x9"),
        ('CONFIG SET requirepass "Zq8!xx77a"', "PASSWORD", "Zq8!xx77a"),
        ('password_confirmation: "N274mesdg5"', "PASSWORD", "N274mesdg5"),
        ("<tr><td>Password</td><td>hUnter2!x9</td></tr>", "PASSWORD", "hUnter2!x9"),
        ("<th>Password:</th>\n  <td class='v'>hUnter2!x9</td>", "PASSWORD", "hUnter2!x9"),
        ('<property name="connection.password">hUnter2!x9</property>', "PASSWORD", "hUnter2!x9"),
        ('<password encrypted="false">Zq8!xx77a</password>', "PASSWORD", "Zq8!xx77a"),
        ('<input type="password" name="pw" value="0#vTG@Wo#Q">', "PASSWORD", "0#vTG@Wo#Q"),
        ("<b>Password:</b> Zq8!xx77a", "PASSWORD", "Zq8!xx77a"),
        ("server.login('jo@x.io', 'JM12MdO3dYdQBajL')", "PASSWORD", "JM12MdO3dYdQBajL"),
        ('new NetworkCredential("jo", "Zq8!xx77a")', "PASSWORD", "Zq8!xx77a"),
        ('mysqli_connect("h", "jo", "Wei@466", "db")', "PASSWORD", "Wei@466"),
        ('new PDO($dsn, "jo", "Wei@466")', "PASSWORD", "Wei@466"),
        ('pymysql.connect("h", "jo", "Zq8!xx77a", "db")', "PASSWORD", "Zq8!xx77a"),
        ("page.fill('#password', 'Zq8!xx77a')", "PASSWORD", "Zq8!xx77a"),
        ('find(By.ID, "password").send_keys("Zq8!xx77a")', "PASSWORD", "Zq8!xx77a"),
        ("echo Xcl^6K2Dlv | sudo -S ls", "PASSWORD", "Xcl^6K2Dlv"),
        ("keytool -storepass Sarah@511 -list", "PASSWORD", "Sarah@511"),
        ("openssl rsa -passin pass:Sarah@511", "PASSWORD", "Sarah@511"),
        ("ldapsearch -D cn=admin -w q#vpfzQm-D -b dc=x", "PASSWORD", "q#vpfzQm-D"),
        ("unzip -P v-X5j%&&D^ a.zip", "PASSWORD", "v-X5j%&&D^"),
        ("net use Z: \\\\h\\s /user:jo Summer5877!", "PASSWORD", "Summer5877!"),
        ("net user jo Zq8!xx77a /add", "PASSWORD", "Zq8!xx77a"),
        ("sqlcmd -S h -U sa -P Zq8!xx77a", "PASSWORD", "Zq8!xx77a"),
        ("sqlplus scott/Tr0ub4dor@orcl", "PASSWORD", "Tr0ub4dor"),
        ("credentials: jo/Fuf6Ps9oc9TroZGa", "PASSWORD", "Fuf6Ps9oc9TroZGa"),
        ("Creds: jo:y2BTm4ttkT3C", "PASSWORD", "y2BTm4ttkT3C"),
        (f"SECRET_KEY_BASE={HEX}", "API_KEY", HEX),
        (f"API_KEY_PROD={HEX}", "API_KEY", HEX),
        (f"OPENWEATHER_KEY={HEX}", "API_KEY", HEX),
        (f"https://example.com/data?q=x&appid={HEX}", "API_KEY", HEX),
        (f"my key is {HEX}", "API_KEY", HEX),
        (
            "APP_KEY=base64:pM3Cq8a5Zk0xE9vYw1tRb7uJf2LhG4sNd6KoIiTyXzQ=",
            "API_KEY",
            "base64:pM3Cq8a5Zk0xE9vYw1tRb7uJf2LhG4sNd6KoIiTyXzQ=",
        ),
        (f"AKIAZ7QW3JKD2LMN4PQR\n{AWS_SECRET}", "AWS_SECRET_KEY", AWS_SECRET),
        ("X-Api-Key: bXf7kk29dkfh38dhgwm!", "API_KEY", "bXf7kk29dkfh38dhgwm"),
        ("[https://a?access_token=jVJKdd83kdbuQg](http://x.io)", "API_KEY", "jVJKdd83kdbuQg"),
        ('api_key="yc%f12_VK^Ej"', "API_KEY", "yc%f12_VK^Ej"),
        ("redis-cli -h cache -a Secr3tPw ping", "PASSWORD", "Secr3tPw"),
        (
            "SECRET_KEY = 'django-insecure-x#9k$2(m!q@z^w*7&v-5+t=3_r8'",
            "API_KEY",
            "django-insecure-x#9k$2(m!q@z^w*7&v-5+t=3_r8",
        ),
        ("https://x.com/cb?access_token=abcd1234efgh5678#top", "API_KEY", "abcd1234efgh5678"),
        ("sshpass -p'swordfish' ssh bob@host", "PASSWORD", "swordfish"),
        ("mysql -u root -phunter2 shop", "PASSWORD", "hunter2"),
        ("password -> hunter2", "PASSWORD", "hunter2"),
        ("Wifi password → blue42cat!", "PASSWORD", "blue42cat!"),
        ("the password - Tr0ub4dor&3 - is new", "PASSWORD", "Tr0ub4dor&3"),
        ("**Password** – blue42cat", "PASSWORD", "blue42cat"),
        (f"token -> {ALNUM}", "API_KEY", ALNUM),
        ("password:\nhunter2\nthanks", "PASSWORD", "hunter2"),
        ("My password is:\r\n\r\nblue42cat", "PASSWORD", "blue42cat"),
        ("**Password:**\n```\nhunter2\n```", "PASSWORD", "hunter2"),
        ("> password:\n> hunter2", "PASSWORD", "hunter2"),
        (f"API key:\n{ALNUM}", "API_KEY", ALNUM),
        ('password: str = "correcthorse"', "PASSWORD", "correcthorse"),
        ('let password: &\'static str = "correcthorse";', "PASSWORD", "correcthorse"),
        ("password: str | None = 'correcthorse'", "PASSWORD", "correcthorse"),
        ('var password string = "correcthorse"', "PASSWORD", "correcthorse"),
        ('char password[32] = "correcthorse";', "PASSWORD", "correcthorse"),
        (f'api_key: Final[str] = "{ALNUM}"', "API_KEY", ALNUM),
        ('user.setPassword("correcthorse");', "PASSWORD", "correcthorse"),
        ("set_password(user, 'correcthorse')", "PASSWORD", "correcthorse"),
        ('Client.builder().password("correcthorse")', "PASSWORD", "correcthorse"),
        (f'.apiKey("{ALNUM}")', "API_KEY", ALNUM),
        ("CREATE USER bob IDENTIFIED BY 'correcthorse';", "PASSWORD", "correcthorse"),
        ("alter user bob identified with caching_sha2_password by 'correcthorse'", "PASSWORD", "correcthorse"),
        ("ALTER ROLE bob WITH PASSWORD 'correcthorse'", "PASSWORD", "correcthorse"),
        ('"{\\"user\\": 1, \\"password\\": \\"correcthorse\\"}"', "PASSWORD", "correcthorse"),
        ('"password": "correct\\"horse"', "PASSWORD", 'correct\\"horse'),
        (f"Bearer {LETTERS}", "BEARER_TOKEN", LETTERS),
        (f"Authorization: Bearer {LETTERS.lower()}", "BEARER_TOKEN", LETTERS.lower()),
        (f"api_key = {LETTERS}", "API_KEY", LETTERS),
        (f'api_key="{LETTERS.lower()}"', "API_KEY", LETTERS.lower()),
        (f"GET /v1/maps?key={ALNUM}&zoom=3", "API_KEY", ALNUM),
        (f"https://example.com/cb?a=1&access_token={ALNUM}", "API_KEY", ALNUM),
        (f"https://example.com/f?X-Amz-Signature={HEX}{HEX}", "API_KEY", HEX + HEX),
        (f"https://example.com/f?e=1&sig={ALNUM}%3D", "AZURE_KEY", ALNUM + "%3D"),
        (f"my AWS secret is\n{AWS_SECRET}", "AWS_SECRET_KEY", AWS_SECRET),
        (f"Secret access key:\n> {AWS_SECRET}\n", "AWS_SECRET_KEY", AWS_SECRET),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDE=", "BEARER_TOKEN", "dXNlcjpwYXNzd29yZDE="),
        ('{"name":"DB_PASSWORD","value":"correcthorse"}', "PASSWORD", "correcthorse"),
        ('{\\"name\\": \\"DB_PASSWORD\\", \\"value\\": \\"correcthorse\\"}', "PASSWORD", "correcthorse"),
        ("- name: DB_PASSWORD\n  value: hunter2", "PASSWORD", "hunter2"),
        (f'{{"name": "API_KEY",\n "value": "{ALNUM}"}}', "API_KEY", ALNUM),
        ('{"pin": "4821"}', "PIN", "4821"),
        ('{"card_pin": 4821}', "PIN", "4821"),
        ("my PIN for the card is 4821", "PIN", "4821"),
        ("Password for bob: hunter2", "PASSWORD", "hunter2"),
        ("Password for the wifi:\nhunter2", "PASSWORD", "hunter2"),
        ("password (temporary): hunter2", "PASSWORD", "hunter2"),
        ("his password was changed to hunter2.", "PASSWORD", "hunter2"),
        ("password reset to hunter2", "PASSWORD", "hunter2"),
        ("hunter2 is my password", "PASSWORD", "hunter2"),
        ("log in with Tr0ub4dor&3 as the new password", "PASSWORD", "Tr0ub4dor&3"),
        ('"blue 42 cat" is the password', "PASSWORD", "blue 42 cat"),
        ("pw: hunter2", "PASSWORD", "hunter2"),
        ("machine example.com login bob password hunter2", "PASSWORD", "hunter2"),
        ("machine example.com\n  login bob\n  password hunter2", "PASSWORD", "hunter2"),
        ('requests.get(url, auth=("bob", "correcthorse"))', "PASSWORD", "correcthorse"),
        ("HTTPBasicAuth(user, 'correcthorse')", "PASSWORD", "correcthorse"),
        (f"https://api.telegram.org/bot123456789:AA{ALNUM[:33]}/getMe", "API_KEY", f"123456789:AA{ALNUM[:33]}"),
        ("Password: P@ss;word1", "PASSWORD", "P@ss;word1"),
        ("Password: P@ss;word1; user: bob", "PASSWORD", "P@ss;word1"),
        ("Password:P@ssword1;User=bob", "PASSWORD", "P@ssword1"),
        ("Passwort: hunter2", "PASSWORD", "hunter2"),
        ("das Kennwort lautet hunter2", "PASSWORD", "hunter2"),
        ("密码：hunter2，谢谢", "PASSWORD", "hunter2"),
        ("我的密码是hunter2谢谢", "PASSWORD", "hunter2"),
        ("パスワード：hunter2です", "PASSWORD", "hunter2"),
        ("비밀번호: hunter2", "PASSWORD", "hunter2"),
        ("contraseña: hunter2", "PASSWORD", "hunter2"),
        ("Contrasena: hunter2", "PASSWORD", "hunter2"),
        ("mot de passe : hunter2", "PASSWORD", "hunter2"),
        ("minha senha: hunter2", "PASSWORD", "hunter2"),
        ("Пароль: hunter2", "PASSWORD", "hunter2"),
        ("wachtwoord: hunter2", "PASSWORD", "hunter2"),
        ("hasło: hunter2", "PASSWORD", "hunter2"),
        ("lösenord: hunter2", "PASSWORD", "hunter2"),
        (f"~/.aws/credentials:{AWS_SECRET}", "AWS_SECRET_KEY", AWS_SECRET),
        (f"https://x.amazonaws.com/?a={AWS_SECRET}.", "AWS_SECRET_KEY", AWS_SECRET),
        ("api_key: live_my2secret_Kx4", "API_KEY", "live_my2secret_Kx4"),
        ("redis://:p4ss@db1/0", "CONNECTION_STRING", "redis://:p4ss@db1/0"),
        (f"redis://{HEX}@db1/0", "CONNECTION_STRING", f"redis://{HEX}@db1/0"),
        ("mysql://root:pa/ss1@db1/x", "CONNECTION_STRING", "mysql://root:pa/ss1@db1/x"),
        (f"my API key {HEX} fails", "API_KEY", HEX),
        (f"the access token `{ALNUM}`", "API_KEY", ALNUM),
        (f"apikey {HEX}", "API_KEY", HEX),
        (f"auth token {ALNUM[:22]}/{ALNUM[:19]}+==.", "API_KEY", f"{ALNUM[:22]}/{ALNUM[:19]}+=="),
        ('The password "sunflower99" fails', "PASSWORD", "sunflower99"),
        ("the passphrase 'blue42;cat.' works", "PASSWORD", "blue42;cat."),
        ("ALTER USER bob PASSWORD 'hunter2'", "PASSWORD", "hunter2"),
        ("CREATE ROLE bob PASSWORD 'correcthorse'", "PASSWORD", "correcthorse"),
        ('ConvertTo-SecureString "correcthorse" -AsPlainText', "PASSWORD", "correcthorse"),
        ("ConvertTo-SecureString -AsPlainText -String 'hunter2'", "PASSWORD", "hunter2"),
        ('echo "root:hunter2" | chpasswd', "PASSWORD", "hunter2"),
        ("echo bob:correcthorse | sudo chpasswd", "PASSWORD", "correcthorse"),
        ('psk="correcthorse"', "PASSWORD", "correcthorse"),
        ("psk=hunter22", "PASSWORD", "hunter22"),
        ("pw=12345678", "PASSWORD", "12345678"),
        (f"Cookie: sessionid={HEX}", "API_KEY", HEX),
        (f"Set-Cookie: a=b; PHPSESSID={HEX}; path=/", "API_KEY", HEX),
        (f"Cookie: connect.sid=s%3A{HEX}", "API_KEY", f"s%3A{HEX}"),
        (f"https://example.com/?session_id={HEX}", "API_KEY", HEX),
        ("MYSQL_USER=shop MYSQL_PASSWORD=shopkeeper", "PASSWORD", "shopkeeper"),
        ("MYSQL_USER=shopkeeper MYSQL_PASSWORD=shop", "PASSWORD", "shop"),
        ("password='postgres2x'", "PASSWORD", "postgres2x"),
        ("the pass to the wifi is hunter2", "PASSWORD", "hunter2"),
        ("my pass was changed to hunter2", "PASSWORD", "hunter2"),
        ('if (password == "hunter2")', "PASSWORD", "hunter2"),
        ("--db-pass=correcthorse -debug", "PASSWORD", "correcthorse"),
        ("PWD=hunter2/x", "PASSWORD", "hunter2/x"),
        ("{'user': 'bob', password: ')hunter2'}", "PASSWORD", ")hunter2"),
        ('"NewPassword": "]35d/{pB9Fo9wJ"', "PASSWORD", "]35d/{pB9Fo9wJ"),
    ],
    ids=lambda value: value[:14],
)
def test_what_its_keyword_tells(text: str, entity: str, secret: str) -> None:
    assert (entity, secret) in found(text)


def test_a_private_key_without_its_end_goes_as_far_as_it_goes() -> None:
    for newline in ("\n", "\\n", "\r\n"):
        cut = PEM.rpartition("\n")[0].replace("\n", newline)
        assert found(f"{cut}{newline}{newline}Can you read that?") == [("PRIVATE_KEY", cut)]


@pytest.mark.parametrize("newline", ["\n> ", "\r\n>> ", "%0A", "%0D%0A", "<br>", "<br />"])
def test_nor_do_the_lines_of_a_private_key_need_to_be_plain(newline: str) -> None:
    cut = PEM.rpartition("\n")[0].replace("\n", newline)
    assert found(f"{cut}\n\nCan you read that?") == [("PRIVATE_KEY", cut)]


def test_two_tokens_with_one_character_between() -> None:
    first, second = "ghp_" + ALNUM, "AKIAIOSFODNN7EXAMPLE"
    assert [one for _, one in found(f"{first},{second} {first}")] == [first, second, first]


@pytest.mark.parametrize(
    "text",
    [
        "password",
        "password: required",
        "password = getpass.getpass()",
        "password = os.environ['DB']",
        "def login(user: str, password: str) -> None: ...",
        '{"password": {"type": "string"}}',
        "password=password",
        "password = None",
        "password=${DB_PASSWORD}",
        "Your password must be 12 characters.",
        "your password is case-sensitive",
        "token = tokenizer.encode(text)",
        "max_tokens: 4096",
        "a bearer of good tidings",
        "authorization: required",
        f"commit {HEX}{HEX[:8]}",
        "data:image/png;base64," + ALNUM * 10,
        "https://example.com:8080/a@b",
        "http://example.com/?q=a:b",
        "the task-force and risk-assessments",
        "see sk-learn, x86, H2, np.array, os.path.join, main.py",
        "eyJ is how a JWT starts",
        "-----BEGIN CERTIFICATE-----",
        "docker run --name mysql -p3306:3306 mysql; mysql -p shop2",
        'UserPassword *UserPassword `protobuf:"bytes,2,opt,name=user_password,json=userPassword"`',
        "password SHA256; password must be 8-20 characters; password reset-2024; the password OAuth2Client",
        "| Password | Required |\n| password | string |",
        "docker login -u bob --password-stdin; docker run -p 8080:80 x1; az login -p $PW",
        "token = 'f(x1, y2) + g(z3, w4) + h'; secret: \"https://vault.example.com/v1/secret/data/abc1\"",
        "credential = 'arn:aws:iam::123456789012:role/x'; cache_token = 'v1|users|42], 2024-01-01'",
        "sshpass -p $PASS ssh bob@host; mysql -uroot -p$PASS -proot",
        "in their places--pass `strict=False` to change that",
        "use --password to set it, or --password-file /run/secrets/db.txt",
        "pass --password PASSWORD or --password <password>, --token TOKEN",
        "run it with --password $DB_PASSWORD, --api-key ${API_KEY}",
        "<password>string</password> <token></token>",
        "<password>Enter your password</password>",
        '<label for="password">Password</label><input type="password" class="field-2">',
        "a compass> points",
        "the password - as I said - is gone",
        "password - 12-character minimum, 3rd attempt",
        "password -> sha256 -> base64",
        "Change password -> /settings/security2",
        "Reset password - v2.1.4 only; see password - step2",
        "map(password -> password.length() > 8)",
        "user->password->data1",
        "forgot your password:\n1. open the page",
        "Password:\nLast login: Mon Nov 23 10:11:12 2026 from web1",
        "password:\n  type: string\n  minLength: 12",
        "e-mail and password:\njane@example.com",
        "password:\n2026-11-22",
        "def f(password: str, user: str = 'bob'): ...",
        "password: str = None, token: Optional[str] = None",
        "password = get_password()",
        "setPassword(password); setPassword(getpass('Password: '))",
        'setPassword("string")',
        "x.password(value)",
        "the file is identified by 'name' and identified by 3 letters",
        "try again with password 'required'",
        "api_key = None",
        "api_key = getAccessTokenFromTheVault",
        "api_key = settings.OPENAI_API_KEY",
        "api_key: YOUR_API_KEY_HERE",
        'api_key = "yourapikeygoeshere"',
        "Bearer authenticationscheme",
        "Bearer YOUR_ACCESS_TOKEN_HERE",
        "https://example.com/p?key=my-article-slug-2024&page=2",
        "https://example.com/p?key=introduction2024&sig=none",
        "https://example.com/p?key=frequently-asked-questions",
        f"the secret is in\n{HEX}{HEX[:8]}",
        "the secret garden\nis a book",
        '{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}',
        '{"name":"DB_PASSWORD","value":"${DB_PASSWORD}"}',
        '<input name="password" value="">',
        '"pin": 13, "pins": 4821',
        "Password for step 2: see page 14",
        "password (min 8 chars): required",
        "[sudo] password for bob:",
        "which is the password? C# is the password; (what is the password",
        "foo(x) is the password, $PASS is the password, base64 is the password",
        "**Where is the password",
        "the login page password field; login and password *fields*",
        'auth=(user, password), auth=("user", "password")',
        "spw: hunter2, a pulse of pw=0.25 or pw=1200",
        "password: t.value;return x; password: string;foo",
        '"password": "Passwort", "Kennwort": "erforderlich", "mot de passe": "Mot de passe"',
        '"password": "请输入密码"',
        "密码是必填项，请输入6位以上字符，密码是什么？密码：8-16位字符",
        "パスワードは8文字以上で入力してください",
        "비밀번호는 8자 이상이어야 합니다",
        "contraseña: mínimo 8 caracteres; ella desenha: hunter2",
        "пароль: неверный",
        "https://docs.aws.amazon.com/AmazonS3/latest/dev/UploadingObjects.html",
        "https://aws.amazon.com/blogs/new-AmazonS3ObjectLambdaUse/YourCode/To/Process-x",
        "AWS::EC2::TransitGatewayMulticastDomainAssociation",
        "private_key: Ed25519PrivateKey",
        "headers, secret_key = s3_connection",
        "git clone ssh://git@github.com/foo/bar.git",
        "mysql://{user}:{pw}@{host}/{db}, postgresql://{}@{}:{}/{}, postgres://app:${DB_PASSWORD}@db1/x",
        "ftp://[user@]host/path, mongodb://[username:password@]host1[:port1]",
        "mysql://user:password@localhost/db, https://user:pass@example.com/",
        "docker run -e MYSQL_PASSWORD=wordpress -e MYSQL_USER=wordpress --name wordpress wordpress:latest",
        'connect(password="postgres"); {"password": "Student"}; sshpass -p guest ssh guest@host',
        "-e DB_PASSWORD=shop -e DB_USER=shop, User(username='scolvin', password='scolvin'), Login: b2 Password: b2",
        "the secret settings.OPENAI_API_KEY2_NAME, the token ./some/folder/of/models2/file1.bin",
        "the token my-article-slug-2024-introduction, token 0x9f86d081884c7d659a2feaa0c55ad015",
        'the password "field2" and password `user_name`, the password "of 8 letters"',
        "ConvertTo-SecureString $plain; ConvertTo-SecureString '$plain'; echo root:$PASS | chpasswd",
        "session=requests.Session(), sid=ordinary-long-name-2024, side=aB3dE6gH9jK2mN5p, psk=8-PSK",
        "keyword arguments to pass to `numba.jit`; what to pass: kwargs1",
        'pass to "open_file", pass to gRPC/Storage, a boarding pass to Paris-1',
        '{"PWD": "/home/node/project"}',
        "PWD=/app1\nOLDPWD=~/x1",
        'user_pass == "git"',
        "-debug-pass=Structure",
        'FORCE_CHANGE_PASSWORD = "FORCE_CHANGE_PASSWORD"',
        "f'password={password!r}'",
        "getpass('password: '), scopes=f())",
        'print("password: " + x)',
        "password: [REDACTED]",
        "password: (optional) the key's",
        'version_pass = "%d.%d.%d"',
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert found(text) == []


def test_an_ordinary_word_after_its_keyword_stays() -> None:
    assert found("my password is correcthorse") == []  # the limit that the docs state


@pytest.mark.parametrize(
    ("key", "value", "entity"),
    [
        ("password", "correcthorse", "PASSWORD"),
        ("userPassword", "a b", "PASSWORD"),
        ("access_token", ALNUM, "API_KEY"),
        ("client_secret", ALNUM, "API_KEY"),
        ("pin_code", "4821", "PIN"),
        ("Passwort", "correcthorse", "PASSWORD"),
        ("contraseña", "correcthorse", "PASSWORD"),
        ("密码", "correcthorse", "PASSWORD"),
        ("user_pw", "correcthorse", "PASSWORD"),
        ("desenha", "correcthorse", None),
        ("password", "string", None),
        ("password", "Postgres", None),
        ("PWD", "/home/node/project", None),
        ("CHANGE_PASSWORD", "change-password", None),
        ("password", "", None),
        ("password", "********", None),
        ("token", "the", None),
        ("spinner", "4821", None),
        ("content", "hunter2", None),
    ],
)
def test_the_key_of_a_field_tells(key: str, value: str, entity: str | None) -> None:
    assert secret_field(key, value) == entity


@pytest.mark.parametrize(
    "shape",
    [
        "password=",
        "password is ",
        "-----BEGIN PRIVATE KEY-----\n",
        "eyJhbGciOiJ.",
        "a://",
        "aws ",
        "sk-",
        "a:b@",
        "\0",
        "password:\n",
        "--password ",
        "<password>",
        "password -> ",
        "IDENTIFIED BY ",
        "-----BEGIN PRIVATE KEY-----\\\\n",
        "-----BEGIN PRIVATE KEY-----%0A",
        "create user \n",
        "x is my password ",
        "password for ",
        "password (",
        "password\n value:",
        "password: ;",
        "login a password ",
        "auth(a,",
        "password '",
        "api key a1",
        "session=sid=",
        ":a1|",
        "密码",
    ],
)
def test_hostile_shapes_come_to_an_end(shape: str) -> None:
    find_secrets(shape * (65536 // len(shape)))


def test_names_are_placeholder_names() -> None:
    assert all(name.replace("_", "").isalpha() and name.isupper() for name in SECRET_ENTITIES)


def test_a_private_key_that_is_only_spoken_of_is_no_key() -> None:
    assert find_secrets("That is a private key: please make a new pair.") == []


def test_an_aws_secret_need_not_hold_a_digit() -> None:
    secret = "wJalrXUtnFEMIxKxMDENGxbPxRfiCYEXAMPLEKEY"
    assert found(f"AWS_SECRET_ACCESS_KEY={secret}") == [("AWS_SECRET_KEY", secret)]


@pytest.mark.parametrize(
    ("text", "passwords"),
    [
        ("user,password\njo,XHwl1tfUMrsK\nann,Sunshine5!\n", ["XHwl1tfUMrsK", "Sunshine5!"]),
        ("Logins:\n| user | password |\n|---|---|\n| jo | u2NZW88@ZA |\n| ann | `x9Hh77!` |\n\nbye", ["u2NZW88@ZA", "x9Hh77!"]),
        ("user\tpassword\njo\tu2NZW88@ZA", ["u2NZW88@ZA"]),
        ("Username | Password | Role\nroot | toor | admin\njo | Hn6!xQ2 | x", ["Hn6!xQ2"]),
        ("name;passwort;x\r\njo;gEh31m!x;1\r\n", ["gEh31m!x"]),
        ('"user","password"\n"jo, jr","a,b9X!y"\n', ["a,b9X!y"]),
        ("INSERT INTO users (name,password) VALUES ('jo','Wibok'), ('an, jr','x9''Q!');", ["Wibok", "x9''Q!"]),
        ('insert ignore into `t` (`id`, `pass`, ts)\n values (1, "abc9Z", NOW()), (2, \'it9\', NOW())', ["abc9Z", "it9"]),
        ("Forgot username, password, or email?\nfoo, bar, baz9\n", []),
        ("user,password\njo,see the vault for it\n", []),
        ("    username, password,\n    statement=None,\n    fetch9,\n", []),
        ("connect(user, password)\nreturn(jo, x9Yz77)\n", []),
        ("filter,lowpass,highpass\nf1,44.1kHz/2,3\nf2,butter-4,2", []),
        ("| name | type | about |\n|---|---|---|\n| password | string | Min 8 |\n| oauth2_code | string | y |", []),
        ("| password | string | Required. Min 8 |\n| remember_me2 | bool | x |\n| oauth2_code | string | y |", []),
        ("password\tstring\nuser_id2\tint\n2fa-code\tint", []),
        ("Enter username, password\nOr use SSO, OAuth2.0", []),
        ("A bash line; pass; fi\nfoo1=2; bar=x1; fi", []),
        ("Day | Ski Pass\nTue | 3h=$30", []),
        ("from os import getcwd, pwd\nfrom x import a, b64decode", []),
        ("first pass, second pass\nthird1, fourth2x=3", []),
        ("INSERT INTO t (name, pass) VALUES ('run', 'failed: 3 errors')", []),
        ("user,password\njo,XHwl1tf,UMrsK9", []),
        ("password,\n" * 99, []),
        ("INSERT INTO t (a, password) VALUES (1", []),
        (",password", []),
    ],
)  # fmt: skip
def test_passwords_below_the_name_of_their_column(text: str, passwords: list[str]) -> None:
    assert [text[one.start : one.end] for one in find_columns(text)] == passwords
    found = [text[one.start : one.end] for one in find_secrets(text)]
    assert [one for one in found if one in passwords] == passwords


@given(
    st.text(st.sampled_from("a9,;|\t\n ()'\"x"), max_size=40), st.text(st.sampled_from("a9,;|\t\n ()'\"x"), max_size=60)
)
def test_tables_of_any_shape_are_read(before: str, after: str) -> None:
    for text in (f"{before}password{after}", f"insert into t(password,{before}) values ({after}", before + after):
        for one in find_columns(text):
            assert 0 <= one.start < one.end <= len(text)


@pytest.mark.parametrize(
    "part",
    [
        "password,",
        "password,\n",
        "a,password\n,\n",
        "|password|\n|x|\n",
        "insert into t(password) values (",
        "(password,'",
        "pwd,\n,\n",
    ],
)
def test_many_tables_take_time_in_proportion(part: str) -> None:
    assert len(list(find_columns(part * 20_000))) <= 20_000


@pytest.mark.parametrize(
    "text",
    [
        "PublicKeyToken=b77a5c561934e089",
        "credentials: see docs/setup.md, credentials: user/password, creds: a/b/c9d8e7f6",
        'password="your_password_here"',
        'password="yourpassword"',
        "if password == confirm_password2:",
        'curl -u "$USER:$PASS" https://example.com',
        "curl -u username:password https://example.com",
        "<td>Password</td><td>must be 8 characters</td>",
        "<th>Password</th><th>E-Mail</th>",
        "<code>password</code>: max=64, <b>Password</b> 8-20chars, <td>password</td><td>min-8-chars</td>",
        '<a name="password">RFC-2617</a>, <h2 id="password">Password2FA</h2>, <label for="password">Password1:</label>',
        "<pass lang=en>12/15 ok</pass>, this.login('page', 'Login successful!')",
        "docker run --name mongo -p 27017:27017 mongo, docker run --name mongodb -p 127.0.0.1:27017:27017 mongo",
        "ENV GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D, RECAPTCHA_SITE_KEY=6LeIxAcTAAAAAJcZVRqyHh71UMIEGNQ_MXjiZKhI",
        "the key difference-between-a1b2c3d4e5f6g7h8",
        "TYPE_KEY=application/json; SORT_KEY=created_at_desc_nulls_last",
    ],
)
def test_what_is_said_of_passwords_and_keys_stays(text: str) -> None:
    assert find_secrets(text) == []
