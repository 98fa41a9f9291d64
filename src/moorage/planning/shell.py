"""Lines for `sh -c`: which of them are one plain command, and how that replaces its shell.

A shell that stays takes memory and, being first to get SIGTERM, dies of it without telling the app;
`exec` makes the app the process that is started and stopped.
"""

import re

_PLAIN = re.compile(
    r"(?P<env>(?:[A-Za-z_]\w*=[\w./:@,+-]*[ \t]+)*)(?P<word>[\w./@+-]+)(?=[ \t]|\Z)"
)
_GRAMMAR = re.compile(r"[;&|<>()`\\\n\r\0]")
_QUOTED = re.compile(r"'[^']*'")
_OF_THE_SHELL = frozenset(
    (
        *("if", "for", "while", "until", "case", "then", "do", "time", ".", ":", "source", "eval"),
        *(
            "exec",
            "exit",
            "cd",
            "set",
            "unset",
            "export",
            "trap",
            "ulimit",
            "umask",
            "wait",
            "test",
        ),
        *("command", "function", "readonly", "local", "return", "shift", "alias", "read", "true"),
    )
)


def first_word(command: str) -> str:
    """The program a plain command runs; "" when the line is more than a plain command.

    Plain: words, quotes and parameters, after assignments at most; no pipe, list, redirection or
    substitution, nothing only the shell itself can do.
    """
    match = _PLAIN.match(command)
    if match is None or match["word"] in _OF_THE_SHELL:
        return ""
    # Single quotes are only looked into where nothing else could be quoting them.
    bare = command if '"' in command or "\\" in command else _QUOTED.sub("", command)
    return "" if _GRAMMAR.search(bare) else match["word"]


def in_place(command: str) -> str:
    """The same command, run instead of its shell if it is a plain one."""
    if not first_word(command):
        return command
    match = _PLAIN.match(command)
    return f"exec env {command}" if match is not None and match["env"] else f"exec {command}"
