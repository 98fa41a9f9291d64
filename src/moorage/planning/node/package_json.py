"""The parts of package.json that planning reads."""

import msgspec

from moorage.errors import UploadInvalid
from moorage.planning.reading.folder import Folder

Versions = dict[str, str]
INSTALL_SCRIPTS = frozenset(
    (
        *("preinstall", "install", "postinstall", "prepare", "preprepare", "postprepare"),
        *("prepublish", "pnpm:devPreinstall"),
    )
)


class PackageJson(msgspec.Struct, rename="camel"):
    """The fields that say how a package is installed, built and started."""

    name: object = None
    version: object = None
    scripts: dict[str, str] = {}
    main: object = None
    dependencies: Versions = {}
    dev_dependencies: Versions = {}
    optional_dependencies: Versions = {}
    peer_dependencies: Versions = {}
    workspaces: object = None
    package_manager: object = None
    engines: object = None

    @property
    def installs(self) -> bool:
        """Whether an install has anything to do: dependencies, or scripts of its own."""
        return bool(
            self.dependencies
            or self.dev_dependencies
            or self.optional_dependencies
            or self.peer_dependencies
            or self.workspaces
            or self.runs_at_install
        )

    @property
    def runs_at_install(self) -> bool:
        """Whether an install runs the package's own scripts, which may read any of its files."""
        return not self.scripts.keys().isdisjoint(INSTALL_SCRIPTS)

    @property
    def depends_on_files(self) -> bool:
        """Whether a dependency is a file or a directory of the upload."""
        return any(
            version.startswith(("file:", "link:", "portal:", "./", "../", "/"))
            for versions in (
                self.dependencies,
                self.dev_dependencies,
                self.optional_dependencies,
            )
            for version in versions.values()
        )

    @property
    def workspace_patterns(self) -> tuple[str, ...]:
        """The globs of `workspaces`, in npm's or Yarn's form; none without it."""
        listed = self.workspaces
        if isinstance(listed, dict):
            listed = listed.get("packages")
        if not isinstance(listed, list):
            return ()
        return tuple(item for item in listed if isinstance(item, str))

    def engine(self, name: str) -> str:
        """The range that `engines` gives a program, "" when it gives none."""
        found = self.engines.get(name) if isinstance(self.engines, dict) else None
        return found.strip() if isinstance(found, str) else ""

    def depends_on(self, package: str) -> bool:
        """Whether the package is a dependency, for development or not."""
        return package in self.dependencies or package in self.dev_dependencies

    def script(self, name: str) -> str:
        """A script's command, "" when there is none."""
        return self.scripts.get(name, "").strip()


_decoder = msgspec.json.Decoder(PackageJson)


def package_json(folder: Folder) -> PackageJson | None:
    """The folder's package.json; None when there is none.

    Raises UploadInvalid, naming the file, when it is not JSON or a field has the wrong type.
    """
    if not folder.has("package.json"):
        return None
    try:
        manifest = _decoder.decode(folder.text("package.json"))
    except msgspec.MsgspecError as error:
        raise _invalid(folder, str(error)) from error
    except RecursionError as error:
        raise _invalid(folder, "nested too deeply") from error
    if any("\0" in command for command in manifest.scripts.values()):
        raise _invalid(folder, "a script contains NUL")
    return manifest


def _invalid(folder: Folder, problem: str) -> UploadInvalid:
    return UploadInvalid(
        f"is not a valid package.json: {problem}", path=folder.path("package.json")
    )
