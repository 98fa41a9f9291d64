"""Rewrites the gateway's sentences: flags in place of fields, commands in place of calls."""

import re

from moorage.cli.flags import setting_flags

_WORDS = {
    "uniqueName": "--name",
    "displayName": "--display-name",
    "healthPath": "--health-path",
    "installCommand": "--install",
    "buildCommand": "--build",
    "settings.volume: true": "--volume",
    "discard_written: true": "--discard-written",
    "settings.hasDockerfile: true": "--dockerfile",
    "X-Payment-Chain": "--chain",
    "X-Payment-Token": "--token",
    "header X-Use-Existing-Credits: true": "--use-existing-credits",
    "X-Use-Existing-Credits: true": "--use-existing-credits",
    "POST …/domains": "`moorage domains add`",
    "POST …/verify": "`moorage domains verify`",
    "POST /agent/credits": "`moorage topup`",
    "GET /agent/projects": "`moorage projects`",
    "PUT /agent/webhook": "`moorage webhook set`",
}
_WORDS |= {f"settings.{name}": flag for name, flag in setting_flags()}
_VARIABLES = {"settings.runEnvs.": "--env ", "settings.buildVars.": "--build-env "}
_FOUND = re.compile(
    r"(?<![\w./-])(?:"
    + "|".join(
        [
            *(re.escape(each) + r"(?=\w)" for each in _VARIABLES),
            *(re.escape(each) + r"(?![\w/-])" for each in _WORDS),
        ]
    )
    + ")"
)


def in_cli_words(text: str) -> str:
    """`text` with flags in place of settings, and commands in place of calls."""
    return _FOUND.sub(lambda match: (_VARIABLES | _WORDS)[match[0]], text)
