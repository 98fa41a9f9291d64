"""Turns an upload's files and settings into a plan, or says what it looked for.

docs/use/stacks.md has the stacks in the order in which they are tried; the first that says how the
app starts wins. Each explicit command replaces its own step, "" skips it. settings.runtime leaves
out the other stacks; settings.framework only puts its stack first. An upload that is one directory,
or in which only one has an app and the root none, is planned from inside it, unless
settings.directoryPath or a command is given.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from moorage.errors import InvalidField, InvalidRequest, PlanNotFound, UploadInvalid
from moorage.planning import hosts, kinds, pages, risks, roots, static
from moorage.planning.dockerfile import app as dockerfile
from moorage.planning.dockerfile import image
from moorage.planning.dockerfile.commands import brought
from moorage.planning.explicit import COMMAND_LIMIT, Asked, asked, environment
from moorage.planning.interpreters import interpreters, refuse_unmade
from moorage.planning.languages import deno, go, java, php, ruby, rust
from moorage.planning.node import app as node
from moorage.planning.node.builds import of_visitors_machine, unset_variables
from moorage.planning.plan import (
    Plan,
    Recipe,
    Risk,
    RiskCode,
    Settings,
    Stack,
    beside,
    quoted,
)
from moorage.planning.python import app as python
from moorage.planning.reading.folder import Folder, SourceTree
from moorage.planning.reading.formats import in_place
from moorage.planning.secrets import own_secrets, plain_examples
from moorage.planning.toolbox import Dockerfiles, Tool, Toolbox
from moorage.records.project import NEVER_SLEEPS, Kind

_USUAL = (
    "Set settings.runCommand to the line that starts it, or add a package.json, requirements.txt "
    "or index.html."
)
_ADD = "Add a program that listens on PORT, or set settings.runCommand."
_NAMES = 4  # in a sentence


def not_found(
    folder: Folder,
    wanted: Asked,
    looked_for: tuple[str, ...],
    missing: str,
    toolbox: Toolbox,
) -> PlanNotFound:
    """Returns the refusal of files that no stack can start; `missing` is what one of them lacks."""
    where = f" in {folder.directory}" if folder.directory else ""
    if wanted.stack is not None:
        where += f" for settings.runtime {wanted.stack}"
    looked_for = (*looked_for, "a Procfile with a web line", "settings.runCommand")
    if missing:
        said = f"No way to start this upload was found{where}: {missing}."
        apps = roots.apps_below(folder) or roots.examples_below(folder)
        beside = kinds.known(folder)
        if apps and wanted.directory == "":
            said += f" {roots.several(apps)}."
        if beside.file.endswith((".ipynb", "langgraph.json")):
            said += f"{beside.sentence} {beside.step}"
        elif not apps and ": " not in missing and "(" not in missing:
            said += f" {_ADD}"
        if folder.has("Dockerfile"):
            said += " Or set settings.hasDockerfile: true to follow the Dockerfile."
        return PlanNotFound(said, looked_for=looked_for)
    known = kinds.known(folder, follows_any=toolbox.dockerfiles is not Dockerfiles.STEPS)
    entries = [name for name in (known.file, *folder.files()) if name]
    entries += [f"{name}/" for name in folder.directories()]
    said = f"No app was found{where}: the upload has {kinds.listed([*dict.fromkeys(entries)])}."
    said += known.sentence
    if known.file.endswith("/Dockerfile"):
        place = kinds.short(known.file.removesuffix("/Dockerfile"))
        said += f" Set settings.directoryPath to {place}."
    if known.file == dockerfile.FILE and not _is_followed(folder, toolbox):
        return PlanNotFound(f"{said} {_DOCKERS}", looked_for=looked_for)
    image = hosts.only_image(folder)
    if image:
        step = f"It builds nothing: add a Dockerfile with FROM {image}, for a gateway with Docker."
        return PlanNotFound(f"{said} {step}", looked_for=looked_for)
    step = known.step or (toolbox.otherwise if known.file else _USUAL)
    return PlanNotFound(f"{said} {step}", looked_for=looked_for)


def _is_followed(folder: Folder, toolbox: Toolbox) -> bool:
    """Whether the folder's Dockerfile can be followed on this gateway."""
    if toolbox.dockerfiles is not Dockerfiles.STEPS:
        return True
    settings = Settings(has_dockerfile=True)
    try:
        dockerfile.planned(folder, settings, asked(settings), toolbox)
    except InvalidRequest:
        return False
    return True


_DOCKERS = "Its steps can't be followed without Docker: a gateway with Docker builds it."

Detect = Callable[[Folder, Asked, Toolbox], Recipe | None]

_STACKS: dict[Stack, tuple[Detect, tuple[str, ...]]] = {
    Stack.GO: (go.detect, go.LOOKED_FOR),
    Stack.RUST: (rust.detect, rust.LOOKED_FOR),
    Stack.JAVA: (java.detect, java.LOOKED_FOR),
    Stack.RUBY: (ruby.detect, ruby.LOOKED_FOR),
    Stack.PHP: (php.detect, php.LOOKED_FOR),
    Stack.DENO: (deno.detect, deno.LOOKED_FOR),
    Stack.NODE: (node.detect, node.LOOKED_FOR),
    Stack.PYTHON: (python.detect, python.LOOKED_FOR),
    Stack.STATIC: (static.detect, static.LOOKED_FOR),
}

_ALWAYS_TRIED = (Stack.NODE, Stack.PYTHON, Stack.STATIC)

# How commands call programs whose version no app asks for.
_SHARED = {
    "caddy": "caddy run",
    "uv": "uv ",
    "composer": "composer ",
    "bundler": "bundle ",
    "javac": "javac ",
}

_PROCFILE_LINE = re.compile(r"^([A-Za-z][\w-]{0,60}):[ \t]*(\S.*)$", re.MULTILINE)
_PROCFILE_LIMIT = 65_536  # bytes
_HEROKUS_PHP = re.compile(r"(?:vendor/bin/)?heroku-php-")  # servers of Heroku's machine alone
_WORKERS = ("worker", "bot", "clock")  # a Procfile's lines for one process without a port
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,80}")
_NO_SECRET = "none-in-builds"  # noqa: S105 (for programs of Python that end without one)
_ONE_PROGRAM = "a project here is the one program that answers visitors"


def make_plan(tree: SourceTree, settings: Settings, toolbox: Toolbox) -> Plan:
    """Returns the plan for these files, settings and tools; equal inputs give equal plans.

    Raises PlanNotFound when nothing says how to start the app, RuntimeUnsupported and InvalidField
    for settings and versions that this gateway can't satisfy, UploadInvalid for a needed file that
    can't be read.
    """
    wanted = asked(settings)
    # Only checked here: the deployer's variables are stored sealed, and are no part of the plan.
    environment("settings.buildVars", settings.build_vars, port=settings.port)
    environment("settings.runEnvs", settings.run_envs, port=settings.port)
    folder, because = roots.app_folder(Folder(tree), wanted, has_dockerfile=settings.has_dockerfile)
    port, wish = settings.port, hosts.Wishes()
    if settings.has_dockerfile and toolbox.dockerfiles is not Dockerfiles.STEPS:
        plan = image.planned(folder, settings, wanted, tuple(because), toolbox.dockerfiles)
        return _with_work(plan, settings, wanted)
    if settings.has_dockerfile:
        recipe, port = dockerfile.planned(folder, settings, wanted, toolbox)
    else:
        wish = hosts.wishes(folder)
        wanted = hosts.followed(folder, _with_procfile(folder, wanted), wish)
        wanted, folder, recipe = _app(folder, wanted, wish, toolbox, because)
        wanted, recipe = _published(folder, wanted, recipe, wish, toolbox)
        if settings.run_command is None and not static.is_site(recipe.start or ""):
            source = f"{wish.file}'s release command"
            wanted = _with_release(folder, wanted, wish.release, source=source)
        recipe = _updated(wanted, recipe)
    if wanted.run is not None and not settings.has_dockerfile:
        recipe = _with_interpreters(folder, wanted, recipe, toolbox)
    if wanted.is_worker and static.is_site(recipe.start or ""):
        raise InvalidField("settings.kind", "these files are a site's: they run nothing by itself")
    where = folder.directory if recipe.directory is None else recipe.directory
    because.extend(recipe.because)
    because.extend(_because_asked(settings, wanted, recipe))
    because.extend(_because_missed(folder, recipe, wish.ignored, toolbox))
    if wish.variables:
        named = ", ".join(name for name, _ in wish.variables[:_NAMES])
        because.append(f"files of other hosts set {len(wish.variables)} variables: {named}")
    secrets: tuple[str, ...] = ()
    if not static.is_site(recipe.start or ""):
        secrets = own_secrets(folder, (*recipe.secrets, *wish.secrets))
    if secrets:
        because.append(
            f"{', '.join(secrets)}: the project gets a random value of its own, which stays, "
            "unless settings.runEnvs has one"
        )
    dummies = dict.fromkeys(secrets, _NO_SECRET) if recipe.stack is Stack.PYTHON else {}
    tools = (*recipe.tools, *_shared_tools(recipe, toolbox))
    plan = Plan(
        stack=recipe.stack,
        directory=where,
        install=_in_folder(recipe.install, wanted.install, where),
        build=_in_folder(recipe.build, wanted.build, where),
        start=_in_folder(in_place(recipe.start or ""), wanted.run, where) or "",
        port=port,
        build_env=dummies | dict(recipe.build_env) | dict(wish.variables),
        run_env=dict(recipe.run_env) | dict(wish.variables),
        because=tuple(because),
        toolchains={tool.program: str(tool.version) for tool in tools if not tool.is_hosts},
        host_tools={tool.program: str(tool.version) for tool in tools if tool.is_hosts},
        install_inputs=recipe.install_inputs if recipe.install else (),
        older_python=(recipe.older_python if recipe.install else "") or msgspec.UNSET,
        secrets=secrets or msgspec.UNSET,
    )
    plan = _with_work(plan, settings, wanted)
    return _with_risks(folder, plan, settings, recipe, toolbox, wish.needed)


def _with_work(plan: Plan, settings: Settings, wanted: Asked) -> Plan:
    """Adds what runs beside requests, or without any. Raises InvalidField."""
    if wanted.is_worker:
        _check_worker(settings)
    return msgspec.structs.replace(
        plan,
        schedules=tuple(settings.schedules) or msgspec.UNSET,
        release=_in_folder(wanted.release, wanted.release, plan.directory) or msgspec.UNSET,
        kind=Kind.WORKER if wanted.is_worker else msgspec.UNSET,
    )


def _check_worker(settings: Settings) -> None:
    """Raises InvalidField for what is no worker's."""
    if settings.sleep_after_seconds is not None:
        raise InvalidField("settings.sleepAfterSeconds", NEVER_SLEEPS)
    for number, each in enumerate(settings.schedules):
        if each.path is not None:
            field = f"settings.schedules.{number}.path"
            raise InvalidField(field, "is a request, and a worker answers none: give a command")


def _with_risks(
    folder: Folder,
    plan: Plan,
    settings: Settings,
    recipe: Recipe,
    toolbox: Toolbox,
    needed: tuple[tuple[str, str], ...],
) -> Plan:
    """Adds what may stop the app, after plain values for variables that it insists on."""
    found = _risks(folder, plan, settings, recipe, toolbox, needed)
    values = _by_example(folder, found, plan.stack)
    if values:
        said = f"as in its example of a .env file: {', '.join(values)}"
        plan = msgspec.structs.replace(
            plan,
            build_env=values | plan.build_env,
            run_env=values | plan.run_env,
            because=(*plan.because, said),
        )
        found = _risks(folder, plan, settings, recipe, toolbox, needed)
    is_own = static.is_site(plan.start) or settings.has_dockerfile
    for command, said in () if is_own else risks.prepared(folder, read=recipe.read):
        start, because = f"{command}\n{plan.start}", (*plan.because, said)
        plan = msgspec.structs.replace(plan, start=start, because=because)
    return msgspec.structs.replace(plan, risks=found or msgspec.UNSET)


def _by_example(folder: Folder, found: Iterable[Risk], stack: Stack) -> dict[str, str]:
    """Returns plain values of the example of a .env file for variables that nothing else sets."""
    unset = [name for it in found if it.code is RiskCode.VARIABLE_UNSET for name in it.variables]
    examples = plain_examples(folder) if unset else {}
    rust = "?mode=rwc" if stack is Stack.RUST else ""  # SQLx makes no file without it
    return {
        name: value + (rust if value.startswith("sqlite:") else "")
        for name, value in examples.items()
        if name in unset
    }


def _risks(
    folder: Folder,
    plan: Plan,
    settings: Settings,
    recipe: Recipe,
    toolbox: Toolbox,
    needed: tuple[tuple[str, str], ...],
) -> tuple[Risk, ...]:
    found = list(recipe.risks)
    is_site = static.is_site(plan.start)
    is_built = recipe.build and recipe.stack is Stack.NODE and not settings.has_dockerfile
    if is_built:
        found += unset_variables(folder, settings.build_vars)
    if is_built or is_site:
        found += of_visitors_machine(folder, is_site=is_site)
    if is_site:
        found += risks.of_site(folder)
    else:
        given = {*settings.run_envs, *settings.build_vars}
        given.update(name for risk in found for name in risk.variables)
        found += risks.of_sources(folder, plan, toolbox, given, read=recipe.read, needed=needed)
    return tuple(found)


def _with_interpreters(folder: Folder, wanted: Asked, recipe: Recipe, toolbox: Toolbox) -> Recipe:
    """Adds the languages that the given start runs. Raises RuntimeUnsupported if one lacks.

    Also for a program that the start of a Procfile names, and nothing makes.
    """
    source = wanted.run_from or "settings.runCommand"
    has = {tool.program for tool in recipe.tools}
    found = interpreters(wanted.run or "", folder, toolbox, source=source)
    is_unbuilt = recipe.build is None and wanted.install is None
    if is_unbuilt and wanted.run_from == folder.path("Procfile"):
        is_alone = recipe.stack is Stack.CUSTOM
        refuse_unmade(wanted.run or "", folder, toolbox, is_alone=is_alone)
    return recipe._replace(tools=(*recipe.tools, *(t for t in found if t.program not in has)))


def _shared_tools(recipe: Recipe, toolbox: Toolbox) -> list[Tool]:
    """Returns programs that the commands run besides the stack's tools, from every app's PATH."""
    commands = "\n".join(filter(None, (recipe.install, recipe.build, recipe.start)))
    used = [program for program, word in _SHARED.items() if word in commands]
    return [tool for program in used for tool in toolbox.own(program)]


def _with_procfile(folder: Folder, wanted: Asked) -> Asked:
    """Returns the commands with the Procfile's web line as the start, and its release line.

    Its worker line is the start if there is no web line, or a worker is asked for.
    Raises UploadInvalid for a Procfile that is not text or too long.
    """
    if not folder.has("Procfile"):
        return wanted
    text = folder.text("Procfile", limit=_PROCFILE_LIMIT).replace("\r", "")
    lines = {name: line.strip() for name, line in reversed(_PROCFILE_LINE.findall(text))}
    process = _process_of(lines, wanted)
    others = ", ".join(sorted(lines.keys() - {process, "web", "release"})[:_NAMES])
    said = (f"the Procfile's {others}: not started, as {_ONE_PROGRAM}",) if others else ()
    line, release = lines.get(process), lines.get("release", "")
    is_herokus = line is not None and _HEROKUS_PHP.match(line) and folder.has("composer.json")
    if wanted.run is not None or line is None or is_herokus:
        return wanted._replace(said=(*wanted.said, *said))
    if "\0" in f"{line}{release}" or max(len(line), len(release)) > COMMAND_LIMIT:
        raise UploadInvalid(
            f"must have lines of at most {COMMAND_LIMIT:,} characters, without NUL",
            path=folder.path("Procfile"),
        )
    wanted = _with_release(folder, wanted, release, source="the Procfile's release line")
    return wanted._replace(
        run=hosts.by_shell(folder, line),
        run_because=f"the Procfile's {process} line: {quoted(line)}",
        run_from=folder.path("Procfile"),
        said=(*wanted.said, *said),
        kind=wanted.kind if process == "web" else Kind.WORKER,
    )


def _process_of(lines: Mapping[str, str], wanted: Asked) -> str:
    """Returns the name of the process that a project runs; "" for none."""
    if "web" in lines and not wanted.is_worker:
        return "web"
    return "" if wanted.kind is Kind.WEB else next((it for it in _WORKERS if it in lines), "")


def _app(
    folder: Folder, wanted: Asked, wish: hosts.Wishes, toolbox: Toolbox, because: list[str]
) -> tuple[Asked, Folder, Recipe]:
    """Returns the folder's app, else that of the one directory in it which has an entry.

    Raises PlanNotFound, with what is there, for none and for several.
    """
    is_given = wanted.commands or wanted.stack or wanted.framework or wanted.build_dir
    other = "" if is_given or wanted.is_worker else kinds.no_web_app(folder, toolbox.otherwise)
    if other:
        raise PlanNotFound(other)
    recipe = _choose(folder, wanted, toolbox)
    if (recipe is None or recipe.start is None) and wish.publish and wanted.build_dir is None:
        wanted = wanted._replace(build_dir=wish.publish, build_dir_from=wish.file)
        recipe = _choose(folder, wanted, toolbox)
    is_open = not (wanted.directory or wanted.commands)
    if is_open and (recipe is None or recipe.start is None) and not kinds.is_foreign(folder):
        wanted, folder, recipe = _elsewhere(folder, wanted, recipe, toolbox, because)
    if recipe is None or recipe.start is None:
        looked_for = (item for stack in _order(wanted, toolbox) for item in _STACKS[stack][1])
        missing = recipe.missing if recipe is not None else ""
        raise not_found(folder, wanted, tuple(looked_for), missing, toolbox)
    return wanted, folder, _with_page(folder, wanted, recipe, toolbox)


def _elsewhere(
    folder: Folder, wanted: Asked, recipe: Recipe | None, toolbox: Toolbox, because: list[str]
) -> tuple[Asked, Folder, Recipe | None]:
    """Returns what starts an app of which the root's own files say too little.

    That is the only service that a compose file builds, a start.sh, or the only directory in which
    something begins. Raises PlanNotFound for several.
    """
    wish = hosts.last_wishes(folder, refuses=recipe is None)
    if wish.file and (recipe is None or not wish.directory):
        place = folder.below(wish.directory) if wish.directory else folder
        found = _choose(place, wanted, toolbox)
        if found is None or found.start is None:
            wanted = hosts.followed(place, wanted, wish)
            found = _choose(place, wanted, toolbox)
        if found is not None and found.start is not None:
            because.append(
                f"{wish.file} builds one service, in {wish.directory or 'its directory'}"
            )
            return wanted, place, found
    script, command = hosts.start_script(folder)
    if script and (recipe is not None or not roots.apps_below(folder)):
        said = f"{script} is there, and nothing else starts it"
        started = wanted._replace(run=command, run_because=said, run_from=folder.path(script))
        return started, folder, _choose(folder, started, toolbox)
    below = roots.only_entry(folder, is_incomplete=recipe is not None)
    inner = _choose(folder.below(below), wanted, toolbox) if below else None
    if inner is None or inner.start is None:
        return wanted, folder, recipe
    because.append(f"{below} is the only directory with an app in it")
    return wanted, folder.below(below), inner


def _published(
    folder: Folder, wanted: Asked, recipe: Recipe, wish: hosts.Wishes, toolbox: Toolbox
) -> tuple[Asked, Recipe]:
    """Returns the recipe of a site as another host's file has it: its directory, its fallback.

    An app that has a server of its own keeps it, whatever directory a file names.
    """
    if not static.is_site(recipe.start or ""):
        return wanted, recipe
    if wish.publish is not None and wanted.build_dir is None:
        given = wanted._replace(build_dir=wish.publish, build_dir_from=wish.file)
        found = _choose(folder, given, toolbox)
        if found is not None and static.is_site(found.start or "") and found.start != recipe.start:
            wanted, recipe = given, _with_page(folder, given, found, toolbox)
    if wish.fallback and (start := static.with_fallback(recipe.start or "")) != recipe.start:
        wanted = wanted._replace(said=(*wanted.said, f"{wish.file} sends all paths to index.html"))
        recipe = recipe._replace(start=start)
    return wanted, recipe


def _with_release(folder: Folder, wanted: Asked, command: str, *, source: str) -> Asked:
    """Adds what a file of the upload runs once a deployment, unless another command is given."""
    if not command or wanted.release is not None:
        return wanted
    said = f"{source} runs once a deployment: {quoted(command)}"
    return wanted._replace(release=hosts.by_shell(folder, command), said=(*wanted.said, said))


def _updated(wanted: Asked, recipe: Recipe) -> Recipe:
    """Leaves it to the release command to bring the database up to date, if it does; or says so.

    Planning never has a release command of its own: a migration may change data for good.
    """
    *before, start = (recipe.start or "").split("\n")
    updates = next((line for line in before if _UPDATES.search(line)), "")
    if not updates or wanted.run is not None:
        return recipe
    if _UPDATES.search(wanted.release or ""):
        kept = (line for line in before if not _UPDATES.search(line))
        return recipe._replace(start="\n".join((*kept, start)))
    once = quoted(updates.partition(" || ")[0])
    said = f"settings.releaseCommand would run this once, and not before each start: {once}"
    return recipe._replace(because=(*recipe.because, said))


_UPDATES = re.compile(r"migrat|db:prepare|db[ :](?:push|upgrade)|alembic upgrade")


def _choose(folder: Folder, wanted: Asked, toolbox: Toolbox) -> Recipe | None:
    """Returns the first stack that can start; with a given start, the first with any files.

    Else the first whose files are there, without a start; None if there are none.
    """
    incomplete: Recipe | None = None
    for stack in _order(wanted, toolbox):
        recipe = _STACKS[stack][0](folder, wanted, toolbox)
        if recipe is not None and recipe.start is not None:
            if stack is Stack.STATIC and _is_part_of_foreign(folder, wanted):
                return incomplete
            if stack is Stack.NODE and _is_page_of_python(folder, wanted, recipe):
                continue
            return recipe
        incomplete = incomplete or recipe
    if wanted.run is not None and incomplete is None:
        stack = wanted.stack or Stack.CUSTOM
        return Recipe(stack, wanted.install, wanted.build, wanted.run, ())
    return incomplete


def _is_part_of_foreign(folder: Folder, wanted: Asked) -> bool:
    """Whether pages in a directory are those of an app of a language that no stack knows."""
    if wanted.stack is not None or wanted.build_dir is not None or folder.has("index.html"):
        return False
    return kinds.is_foreign(folder) and "/" not in kinds.known(folder).file


def _is_page_of_python(folder: Folder, wanted: Asked, recipe: Recipe) -> bool:
    """Whether a package only builds what a Python app beside it serves."""
    if wanted.run is not None or wanted.stack is not None or wanted.framework is not None:
        return False
    listed = folder.first("requirements.txt", "pyproject.toml", "Pipfile")
    if listed is None and not any(name.endswith(".py") for name in folder.files()):
        return False
    if folder.has("manage.py") or python.mentions_python(recipe.start or ""):
        return python.leads(folder, wanted)
    return not node.is_server(folder, recipe) and python.leads(folder, wanted)


def _with_page(folder: Folder, wanted: Asked, recipe: Recipe, toolbox: Toolbox) -> Recipe:
    """Adds the build of a page that the app serves: of a package.json beside it, or one below."""
    is_site = static.is_site(recipe.start or "")
    if recipe.stack in (Stack.STATIC, Stack.CUSTOM) or (is_site and recipe.stack is Stack.NODE):
        return recipe
    if wanted.install is not None or wanted.build is not None:
        return recipe
    if recipe.stack not in (Stack.NODE, Stack.DENO):
        page = node.page_build(folder, wanted, toolbox, installs=is_site)
        if page is not None:
            return beside(recipe, page, builds=not folder.has("config/environment.rb"))
    below = None if is_site else pages.built_page(folder, wanted, toolbox)
    if below is None:
        return recipe
    whole = beside(recipe, below, builds=True)
    # Of two installs by npm nobody could say which one is to be tried again otherwise.
    return whole._replace(install_inputs=()) if recipe.stack is Stack.NODE else whole


def _order(wanted: Asked, toolbox: Toolbox) -> tuple[Stack, ...]:
    """Returns the stacks in the order in which they are tried.

    With a given start, the app may not use files of a language that the gateway lacks.
    """
    if wanted.stack is not None:
        return (wanted.stack,)
    first = None
    if wanted.framework is not None:
        first = wanted.framework.stack
    elif wanted.run is not None and python.mentions_python(wanted.run):
        first = Stack.PYTHON
    stacks = [s for s in _STACKS if wanted.run is None or s in _ALWAYS_TRIED or toolbox.has(s)]
    return tuple(stacks) if first is None else (first, *(s for s in stacks if s is not first))


def _because_asked(settings: Settings, wanted: Asked, recipe: Recipe) -> list[str]:
    said = []
    for name, command in (
        ("installCommand", settings.install_command),
        ("buildCommand", settings.build_command),
    ):
        if command is not None:
            said.append(
                f"settings.{name} is given: {quoted(command.strip())}"
                if command.strip()
                else f"settings.{name} is empty: this step is skipped"
            )
    said += wanted.said
    if wanted.run is not None and wanted.run_because not in recipe.because:
        said.append(wanted.run_because)
    return said


def _because_missed(
    folder: Folder, recipe: Recipe, ignored: tuple[str, ...], toolbox: Toolbox
) -> list[str]:
    """Says what of the upload has no effect here."""
    said = [hosts.services_beside(folder), _system_packages(folder, toolbox)]
    if static.is_site(recipe.start or ""):
        said += ignored
    return [sentence for sentence in said if sentence]


def _system_packages(folder: Folder, toolbox: Toolbox) -> str:
    """Says which packages of a Space's or Heroku's list the machine has not; or ""."""
    name = folder.first("packages.txt", "Aptfile")
    text = folder.plain(name)
    listed = (line.split("#")[0].strip() for line in text.splitlines())
    missing = [it for it in listed if _PACKAGE.fullmatch(it) and not _has_package(it, toolbox)]
    if not missing:
        return ""
    named = ", ".join(missing[:_NAMES])
    return f"{name} lists packages that are not here: {named}. {toolbox.otherwise}"


def _has_package(package: str, toolbox: Toolbox) -> bool:
    programs = brought(package)
    return programs is not None and set(programs) <= set(toolbox.programs)


def _in_folder(command: str | None, given: str | None, directory: str) -> str | None:
    """Returns the command, None if it is empty.

    A given one finds the app's own programs first. At the root, the sandbox's PATH does that.
    """
    if not command:
        return None
    if not given or not directory:
        return command
    return f'PATH="$PWD/.venv/bin:$PWD/node_modules/.bin:$PATH"\n{command}'
