"""`moorage backup`, `restore` and `migrate-database`: a gateway's data, in another place."""

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions
from moorage.cli.screen import Screen, counted

_NO_KEY = (
    "the key that variables are sealed with is NOT in it: keep {file} apart, or no app that has "
    "variables can be started (--with-key puts it in)"
)


def backup(
    file: Path,
    /,
    *,
    with_key: Annotated[bool, Parameter(negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """Save a gateway into one file: database, apps, volumes, certificates, keys.

    The gateway may run meanwhile; each app that writes waits a moment while its disk is copied.
    Whoever has the file has the gateway's secrets.

    Parameters
    ----------
    file
        Where to; it must not exist yet.
    with_key
        Save the key of `secrets_key_file` too; one in the data directory always is.
    """
    from moorage.operate.backup import back_up

    settings = options.settings()
    saved = back_up(settings, file, with_key=with_key)
    screen = options.screen()
    for deployment_id in saved.lost:
        screen.warn(f"nothing is there of deployment {deployment_id}: it is not in the backup")
    if saved.key_problem:
        screen.warn(
            f"no app that has variables could be started after a restore: {saved.key_problem}"
        )
    if not saved.manifest.secrets_key and settings.secrets_key_file:
        screen.warn(_NO_KEY.format(file=settings.secrets_key_file))
    size = file.stat().st_size
    screen.document(
        {"file": str(file), "bytes": size, "apps": saved.apps, "volumes": saved.volumes}
        | {"secrets_key": saved.manifest.secrets_key, "lost": saved.lost}
        | {"key_problem": saved.key_problem}
    )
    screen.result(
        f"{file}: {size:,} bytes; the database, {counted(saved.apps, 'version')} of apps, "
        f"{counted(saved.volumes, 'volume')}. Keep it as you keep the gateway's keys."
    )
    return Exit.FAILED if saved.key_problem else Exit.OK


def restore(
    file: Path,
    /,
    *,
    data_dir: Path,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Put a backup into an empty directory: all of it, or nothing.

    Never run the old gateway and the new one at the same time: each would credit the same payments.

    Parameters
    ----------
    file
        What `moorage backup` wrote.
    data_dir
        Where to; it must be empty, or not there yet.
    json
        Print one JSON document.
    """
    from moorage.operate.backup import restore as put_back

    saved = put_back(file, data_dir.absolute())
    screen = Screen(json=json)
    made_at = saved.manifest.created_at
    screen.document(
        {"data_dir": str(data_dir), "created_at": made_at}
        | {"apps": saved.apps, "volumes": saved.volumes}
        | {"secrets_key": saved.manifest.secrets_key}
    )
    screen.result(
        f"{data_dir}: the gateway as it was at {made_at}. Next: set data_dir to it in its "
        "configuration and start it with `moorage serve --config …`. For a minute it refuses "
        "requests, lest one signed before be carried out twice."
    )
    return Exit.OK


def migrate_database(*, options: OperatorOptions = DEFAULTS) -> int:
    """Move the books from the file in the data directory to the server of `database_url`.

    Stop the gateway first. The server's database must be empty. All rows are copied in one
    transaction and compared one by one; the file is kept under another name.
    """
    from moorage.money import decimal_text
    from moorage.operate.moving import move_books

    moved = asyncio.run(move_books(options.settings()))
    screen = options.screen()
    screen.document(moved)
    balances = decimal_text(moved.balances_micro_usd, decimals=6)
    screen.result(
        f"{sum(moved.rows.values())} rows are on the server, each as it was; balances are "
        f"${balances}. The file is {moved.file} now. Next: start the gateway with the same "
        "database_url, and delete the file once `moorage audit` is content."
    )
    return Exit.OK
