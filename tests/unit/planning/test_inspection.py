"""What is found in an upload beside the app: secrets, and code that writes files."""

import json
import time

import pytest

from moorage.planning.findings import inspect, told, unserved
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.records.deployment import Finding, FindingKind
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

KEY_BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n" * 3
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY_BODY}-----END PRIVATE KEY-----\n"
OPENSSH = PEM.replace("PRIVATE", "OPENSSH PRIVATE")
HEX_KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
KEYSTORE = json.dumps({"crypto": {"ciphertext": "00", "kdf": "scrypt", "kdfparams": {}, "mac": ""}})
WORDS = " ".join(["test"] * 11 + ["junk"])


def found(path: str, text: str | bytes = "x") -> list[tuple[FindingKind, str]]:
    return [(each.kind, each.what) for each in inspect(MemoryTree({path: text}))]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".env", "A=1"),
        ("apps/web/.env.production", "A=1"),
        (".envrc", "export A=1"),
        ("id_rsa", "x"),
        ("keys/ID_ED25519", "x"),
        ("wallet.json", "{}"),
        ("UTC--2026-01-01T00-00-00.0Z--7ea5", "{}"),
        ("release.keystore", b"\0\1"),
        (".git-credentials", "https://a:b@example.com"),
        ("notes.txt", PEM),
        ("server.key", OPENSSH),
        ("account.json", json.dumps({"private_key": PEM})),
        ("me.json", KEYSTORE),
        ("dev.json", json.dumps({"privateKey": f"0x{HEX_KEY}"})),
        ("seed.txt", f'mnemonic = "{WORDS}"'),
    ],
)
def test_file_that_is_a_secret_is_found_by_its_name_or_its_form(
    path: str, text: str | bytes
) -> None:
    assert [kind for kind, _ in found(path, text)] == [FindingKind.CREDENTIAL_FILE]


@pytest.mark.parametrize(
    "text",
    [
        f"const KEY = `{PEM}`",
        f"PRIVATE_KEY = '{HEX_KEY}'",
        f"privateKey: '0x{HEX_KEY}',",
        "aws = 'AKIA" + "IOSFODNN7EXAMPLE'",
        "token = 'ghp_" + "a" * 36 + "'",
        "stripe = 'sk_live_" + "a1" * 12 + "'",
        "slack = 'xoxb-" + "1" * 24 + "'",
        "key: sk-ant-" + "a" * 95,
        "//registry.example.com/:_authToken=" + "a" * 36,
    ],
)
def test_secret_within_a_file_is_found(text: str) -> None:
    assert [kind for kind, _ in found("src/app.ts", text)] == [FindingKind.CREDENTIAL_TEXT]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".env.example", "KEY="),
        (".env.sample", "KEY="),
        (".env", "# pages\nVITE_URL=https://x.example\nNEXT_PUBLIC_KEY='k'\n"),
        ("environment.ts", "export {}"),
        ("wallet.ts", "export const wallet = 1"),
        ("public.pem", PEM.replace("PRIVATE", "PUBLIC")),
        ("check.js", "if (text.startsWith('-----BEGIN PRIVATE KEY-----')) throw 1"),
        ("app.js", "const privateKey = process.env.PRIVATE_KEY"),
        ("app.js", f"const hash = '0x{HEX_KEY}'"),
        ("app.js", "const AKIAS = 'AKIA'; sk_live_"),
        ("app.js", "AKIA" + "A" * 40),
        ("abi.json", json.dumps([{"name": "mnemonic"}, {"name": "ciphertext"}])),
        (".npmrc", "registry=https://registry.example.com/"),
        ("node_modules/jose/test/id_rsa", PEM),
        (".git/config", PEM),
        ("empty", ""),
    ],
)
def test_examples_public_keys_and_what_others_made_are_no_secrets(path: str, text: str) -> None:
    assert found(path, text) == []


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        ("package.json", '{"dependencies": {"better-sqlite3": "11"}}', "better-sqlite3"),
        ("server.js", "import { DatabaseSync } from 'node:sqlite'", "node:sqlite"),
        ("db.py", "import sqlite3\nsqlite3.connect('a.db')", "sqlite3"),
        ("site/settings.py", "'ENGINE': 'django.db.backends.sqlite3'", "backends.sqlite3"),
        ("prisma/schema.prisma", 'provider = "sqlite"', 'provider = "sqlite"'),
        ("server.js", "fs.writeFileSync('data.json', text)", "writeFileSync"),
        ("src/index.ts", "await fs.promises.writeFile(p, t)", "writeFile"),
        ("app.py", "with open(os.path.join(d, 'x'), 'w') as f: pass", "open"),
        ("app.py", "open(name, mode='ab')", "open"),
        ("main.go", "os.WriteFile(name, data, 0o644)", "os.WriteFile"),
        ("src/main.rs", "let f = File::create(p)?;", "File::create"),
        ("index.php", "<?php file_put_contents('n.txt', $t);", "file_put_contents"),
    ],
)
def test_code_that_writes_files_is_found(path: str, text: str, what: str) -> None:
    assert found(path, text) == [(FindingKind.WRITES, what)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("scripts/build.js", "fs.writeFileSync('a', 'b')"),
        ("test/app.test.js", "fs.writeFileSync('a', 'b')"),
        ("vite.config.js", "fs.writeFileSync('a', 'b')"),
        ("README.md", "open(name, 'w')"),
        ("app.py", "open(name, 'r')"),
        ("app.py", "sqlite3.connect(':memory:')"),
        ("app.py", "with tempfile.NamedTemporaryFile() as t: open(t.name, 'w')"),
        ("app.js", "fs.writeFileSync('/tmp/a', 'b')"),
        ("app.js", "fs.readFileSync('a')"),
    ],
)
def test_builds_tests_and_what_is_temporary_do_not_count_as_writing(path: str, text: str) -> None:
    assert found(path, text) == []


def test_code_that_names_the_volume_is_found_beside_what_writes() -> None:
    for text in ("process.env.DATA_DIR", "'/data/app.db'", '"/data"'):
        kinds = [kind for kind, _ in found("app.js", f"{text}; fs.writeFileSync(a, b)")]
        assert kinds == [FindingKind.WRITES, FindingKind.NAMES_VOLUME]
    assert found("app.js", "fetch('/database'); import './data'") == []


def test_a_few_secrets_are_told_and_one_place_that_writes() -> None:
    files = {f"{n:02}/.env": "x" for n in range(30)} | {
        f"{n}.js": "fs.writeFileSync(a, b)" for n in range(3)
    }
    assert [each.path for each in told(inspect(MemoryTree(files)))] == [
        *(f"{n:02}/.env" for n in range(10)),
        "0.js",
    ]


def test_names_are_looked_at_however_much_there_is() -> None:
    files: dict[str, str | bytes] = {f"{n}.bin": b"\0" * 1_000_000 for n in range(20)}
    assert [each.path for each in inspect(MemoryTree(files | {"z/id_rsa": b"k" * 2_000_000}))] == [
        "z/id_rsa"
    ]


@pytest.mark.parametrize(
    "repeated",
    [
        *("open(", "open(,", "private_key = ", "-----BEGIN PRIVATE KEY-----", '"/data'),
        *(f'mnemonic="{"abcdefgh " * 22}1', f"private_key: 0x{HEX_KEY}0", "/", "AKIA", "npm_"),
    ],
)
def test_hostile_text_takes_no_longer_than_any_other(repeated: str) -> None:
    """By the processor's time: what is quadratic in 4 MiB takes hours."""
    size = 256 * 1024
    text = (repeated * (size // len(repeated) + 1))[:size]
    begun = time.process_time()
    inspect(MemoryTree({f"{n}.py": text for n in range(20)}))
    assert time.process_time() - begun < 60


SECRETS = {"id_rsa": "x", "it's/wallet.json": "{}", ".env": "A=1", "notes.txt": PEM}


def test_site_does_not_get_files_that_are_secrets() -> None:
    tree = MemoryTree(SECRETS | {"index.html": "hi"})
    plan = make_plan(tree, Settings(), TOOLBOX)
    served = unserved(plan, inspect(tree))
    removed = "rm -f -- /app/id_rsa '/app/it'\"'\"'s/wallet.json' /app/notes.txt"
    assert (plan.build, served.build) == (None, removed)
    assert served.because[-1].endswith("id_rsa and 2 more")


def test_site_that_is_built_loses_them_before_the_build() -> None:
    tree = MemoryTree({"index.html": "hi", "id_rsa": "x"})
    plan = make_plan(tree, Settings(build_command="make", build_dir="dist"), TOOLBOX)
    assert unserved(plan, inspect(tree)).build == "rm -f -- /app/id_rsa\nmake"


def test_other_apps_keep_their_files() -> None:
    tree = MemoryTree(SECRETS | {"index.js": "x"})
    plan = make_plan(tree, Settings(), TOOLBOX)
    assert unserved(plan, inspect(tree)) == plan
    site = make_plan(MemoryTree({"index.html": "hi"}), Settings(), TOOLBOX)
    assert unserved(site, [Finding(FindingKind.CREDENTIAL_TEXT, "a.js", "a token")]) == site
