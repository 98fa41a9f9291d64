"""Lines for `sh -c`: finds those that are one plain command, and lets it replace the shell.

A shell that stays takes memory, gets SIGTERM first, and ends without passing it to the app. `exec`
makes the app the process that is started and stopped.
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
    """Returns the program that a plain command runs; "" when the line is more than that.

    A plain command has words, quotes and parameters, and may begin with assignments. It has no
    pipe, list, redirection or substitution, and is no builtin.
    """
    match = _PLAIN.match(command)
    if match is None or match["word"] in _OF_THE_SHELL:
        return ""
    # Single-quoted text is skipped only if nothing else could quote the quotes.
    bare = command if '"' in command or "\\" in command else _QUOTED.sub("", command)
    return "" if _GRAMMAR.search(bare) else match["word"]


def in_place(command: str) -> str:
    """Returns the command, with `exec` if it is a plain one."""
    if not first_word(command):
        return command
    match = _PLAIN.match(command)
    return f"exec env {command}" if match is not None and match["env"] else f"exec {command}"
