import pytest

from moorage.planning.reading.formats import first_word, in_place


@pytest.mark.parametrize(
    ("command", "replaced"),
    [
        ("node index.js", "exec node index.js"),
        ('node index.js --port $PORT "a b"', 'exec node index.js --port $PORT "a b"'),
        ("NODE_ENV=production A=1 node x.js", "exec env NODE_ENV=production A=1 node x.js"),
        (".venv/bin/gunicorn 'shop:create_app()'", "exec .venv/bin/gunicorn 'shop:create_app()'"),
        ("./serve", "exec ./serve"),
    ],
)
def test_plain_command_replaces_its_shell(command: str, replaced: str) -> None:
    assert in_place(command) == replaced


@pytest.mark.parametrize(
    "command",
    [
        "node a.js && node b.js",
        "node a.js | tee log",
        "node a.js &",
        "node a.js; node b.js",
        "node $(ls)",
        "node `ls`",
        "(node a.js)",
        "node a.js > log",
        "node a.js\nnode b.js",
        "cd dist",
        "exec node a.js",
        ". ./env",
        "if true",
        "A=1",
        "A='x y' node a.js",
        """a "'" && b "'" """,
        r"a \' && b '",
        "",
        "$APP",
    ],
)
def test_line_that_needs_its_shell_keeps_it(command: str) -> None:
    assert first_word(command) == ""
    assert in_place(command) == command
