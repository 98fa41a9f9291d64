"""The commands that run a gateway, check its machine, and show how it would build a directory."""

import asyncio
import gc
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.cli.flags import NO_FLAGS, AppFlags, Switch, VariableReader, in_cli_words
from moorage.cli.main import Exit
from moorage.cli.screen import Screen
from moorage.errors import ConfigurationInvalid

if TYPE_CHECKING:
    from moorage.chains.chain import Chain
    from moorage.gateway.running import GatewayAddresses
    from moorage.operate.check import Finding
    from moorage.settings import Settings


def plan(directory: Path, /, *, app: AppFlags = NO_FLAGS, json: Switch = False) -> None:
    """Show how a directory would be built and run, and why.

    It sees the files that `moorage deploy` would upload, and takes the same flags.

    Parameters
    ----------
    directory
        What would be deployed.
    json
        Print one JSON document.
    """
    from moorage.cli.deploy import show_plan
    from moorage.gateway.platform import toolbox_here
    from moorage.planning.pages import left_out
    from moorage.planning.planner import make_plan
    from moorage.planning.static import said
    from moorage.records.deployment import said_left_out
    from moorage.sdk.archive import list_files
    from moorage.uploads.reader import DirectoryTree
    from moorage.uploads.request import deploy_settings

    screen = Screen(json=json)
    asked = app.settings(VariableReader(os.environ, sys.stdin.buffer))
    settings = deploy_settings(msgspec.to_builtins(asked))
    listing = list_files(directory)
    for warning in listing.warnings:
        screen.warn(warning)
    tree = DirectoryTree(directory, listing.sizes)
    made = make_plan(tree, settings, asyncio.run(toolbox_here()))
    for finding in left_out(tree, made):
        screen.warn(in_cli_words(said_left_out(finding)))
    screen.document(made)
    used = {**made.host_tools, **made.toolchains}
    versions = ", ".join(f"{name} {version}" for name, version in used.items())
    steps = {
        "versions": versions or "(any)",
        "install": made.install,
        "build": made.build,
        "release": made.release or None,
        "start": said(made.start),
    }
    show_plan(screen, [risk.message for risk in made.risks or ()], made.because, steps)


_EXAMPLE = Path("examples/hello-node")
_DATA_DIR = ".moorage"  # where commands look for dev.json, unless they are told


def dev(
    *,
    data_dir: str | None = None,
    port: int | None = None,
    proxy_port: int | None = None,
    operator_port: int | None = None,
    reset: Switch = False,
) -> None:
    """Run gateway, two local chains with funded wallets, sandbox and proxy on this machine.

    Ctrl-C stops all of it; the next start finds its state again.

    Parameters
    ----------
    data_dir
        Where everything is kept.
    port
        The gateway's port; 0 takes a free one.
    proxy_port
        The port that apps are served on; 0 takes a free one.
    operator_port
        The port of /metrics and /ready; 0 takes a free one.
    reset
        Forget all state first.
    """
    from moorage import logs
    from moorage.gateway import dev as development
    from moorage.pages.operator.audits import BooksCommand
    from moorage.pages.operator.site import open_operator_pages
    from moorage.settings import load_settings

    load = partial(
        load_settings,
        file=None,
        data_dir=data_dir,
        listen=port,
        proxy_listen=proxy_port,
        operator_listen=operator_port,
    )
    settings = load()
    logs.configure(level=settings.log_level)
    if reset:
        development.reset(Path(settings.data_dir))
    _require_machine(settings)

    def on_ready(addresses: "GatewayAddresses", chains: "dict[str, Chain]", dev_file: Path) -> None:
        for line in _started(settings, addresses, chains, dev_file):
            print(line, flush=True)

    command = BooksCommand(sys.argv[0], ("--data-dir", settings.data_dir))
    _run(
        development.run_dev(
            settings,
            node_modules=[Path("node_modules").absolute()],
            on_ready=on_ready,
            open_pages=partial(open_operator_pages, load=load, command=command),
        )
    )
    print("Stopped. Its state is kept; `moorage dev --reset` starts over.")


def serve(*, config: Path, beside_another: Switch = False) -> None:
    """Run a gateway for real. Apps and proxy keep running when it stops, for the next start.

    Parameters
    ----------
    config
        The settings, as TOML; docs/run/configure.md lists them.
    beside_another
        Start though another gateway answers at the public address and takes the same payments.
    """
    gc.disable()  # a fifth of the time of importing, until `run_serve` has started
    from moorage import logs
    from moorage.gateway.running import run_serve
    from moorage.pages.operator.audits import BooksCommand
    from moorage.pages.operator.site import open_operator_pages
    from moorage.settings import load_settings

    load = partial(load_settings, file=config)
    settings = load()
    logs.configure(level=settings.log_level)
    _require_machine(settings)
    command = BooksCommand(sys.argv[0], ("--config", str(config.absolute())))
    open_pages = partial(open_operator_pages, load=load, command=command)
    audit = command.of("audit")
    _run(
        run_serve(
            settings,
            load=load,
            on_ready=_log_ready,
            audit=audit,
            open_pages=open_pages,
            beside_another=beside_another,
        )
    )


def check(*, config: Path | None = None, json: Switch = False) -> int:
    """Say what this machine or configuration lacks, and the command that fixes it.

    A first gateway needs these settings: `data_dir`, `public_url`, `proxy_listen`, `base_domain`,
    `tls`, `pay_to`, `relayer_key_file` and `chains`.

    Parameters
    ----------
    config
        The settings, as TOML; without it the machine is checked for `moorage dev`.
    json
        Print one JSON document.
    """
    from moorage.settings import load_settings

    findings = _findings(load_settings(file=config), starts=False)
    screen = Screen(json=json)
    if json:
        screen.document({"ok": all(item.ok for item in findings), "findings": findings})
    else:
        for item in findings:
            state = "MISSING" if not item.ok else "warning" if item.warns else "ok     "
            print(f"{state} {item.name}: {item.detail}")
            if not item.ok or item.warns:
                print(f"        {item.remedy}")
    return Exit.OK if all(item.ok for item in findings) else Exit.FAILED


def _log_ready(addresses: "GatewayAddresses") -> None:
    """Says where it answers, in the log's own form, and tells systemd (sd_notify(3))."""
    import structlog

    from moorage.process import notify

    structlog.get_logger().info("serving", url=addresses.gateway, operator=addresses.operator)
    notify("READY=1")


def _run(main: Any) -> None:
    import uvloop

    uvloop.run(main)


def _findings(settings: "Settings", *, starts: bool) -> "list[Finding]":
    from moorage.operate.check import check_gateway

    return asyncio.run(check_gateway(settings, starts=starts))


def _require_machine(settings: "Settings") -> None:
    """Raises ConfigurationInvalid without what a gateway needs; logs what it can start without."""
    import structlog

    found = _findings(settings, starts=True)
    missing = [item for item in found if not item.ok]
    for item in found:
        if item.warns or not (item.ok or item.blocks):
            structlog.get_logger().warning(
                "something is amiss", part=item.name, found=item.detail, remedy=item.remedy
            )
    needed = [item for item in missing if item.blocks]
    if needed:
        listed = "\n".join(f"  {item.name}: {item.detail}\n    {item.remedy}" for item in needed)
        raise ConfigurationInvalid(f"this gateway lacks something:\n{listed}")


def next_command(program: Path, *, data_dir: Path, here: Path) -> str:
    """What deploys the example to this gateway, typed in the directory `here`."""
    arguments = [_from(here, program), "deploy", str(_EXAMPLE), "--name", "hello"]
    if data_dir != here / _DATA_DIR:
        arguments += ["--data-dir", _from(here, data_dir)]
    return shlex.join(arguments)


def _from(here: Path, path: Path) -> str:
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _started(
    settings: "Settings", addresses: "GatewayAddresses", chains: "dict[str, Chain]", dev_file: Path
) -> list[str]:
    return [
        f"gateway   {addresses.gateway}",
        f"apps      {addresses.proxy.replace('127.0.0.1', '<name>.' + settings.base_domain)}",
        *(
            f"chain     {chain.name} ({chain.chain_id}) {chain.rpc_urls[0]}"
            for chain in chains.values()
        ),
        f"operator  {addresses.operator}/operator, /metrics and /ready",
        f"sandbox   {addresses.isolation}",
        f"wallets   {dev_file}",
        "",
        "Next, in a second terminal:",
        "  " + next_command(Path(sys.argv[0]), data_dir=Path(settings.data_dir), here=Path.cwd()),
        "",
        "Ctrl-C stops all of it.",
    ]
