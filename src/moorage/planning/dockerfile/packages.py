"""System packages that a Dockerfile installs, and what of each must be on the machine instead.

Apps here are not root, so nothing is installed. A package is as good as there when the machine has
the programs that it brings, or when an app does not need it here.
"""

_NEEDLESS = (
    # Every machine has it, or it is for another C library.
    *("ca-certificates", "libc6-compat", "gcompat", "libc6", "musl", "libgcc", "libgcc-s1"),
    *("libstdc++", "libstdc++6", "tzdata", "locales", "musl-locales", "icu-libs", "icu-data-full"),
    # Headers for Alpine's C library, for which few packages are built; for this one most are.
    *("musl-dev", "linux-headers", "libffi-dev", "openssl-dev", "python3-dev", "zlib-dev"),
    *("jpeg-dev", "libc-dev", "python3-pip", "python3-venv", "py3-pip", "python-is-python3"),
    # These begin the app's program, which is started without them.
    *("tini", "dumb-init", "su-exec", "gosu", "shadow"),
    # For the package manager itself, and for people.
    *("apt-utils", "apt-transport-https", "software-properties-common", "lsb-release", "debconf"),
    *("vim", "vim-tiny", "nano", "less", "htop", "man-db"),
)
_PROGRAMS = {
    "bash": "bash",
    "bind-tools": "dig",
    "build-base": "gcc g++ make",
    "build-essential": "gcc g++ make",
    "bzip2": "bzip2",
    "chromium": "chromium",
    "coreutils": "ls",
    "curl": "curl",
    "default-mysql-client": "mysql",
    "diffutils": "diff",
    "dnsutils": "dig",
    "ffmpeg": "ffmpeg",
    "file": "file",
    "findutils": "find",
    "g++": "g++",
    "gawk": "gawk",
    "gcc": "gcc",
    "gettext": "msgfmt",
    "gettext-base": "envsubst",
    "ghostscript": "gs",
    "git": "git",
    "git-lfs": "git-lfs",
    "gnupg": "gpg",
    "graphviz": "dot",
    "grep": "grep",
    "gzip": "gzip",
    "imagemagick": "convert",
    "iputils-ping": "ping",
    "jq": "jq",
    "libpq-dev": "pg_config",
    "libreoffice": "soffice",
    "make": "make",
    "mariadb-client": "mysql",
    "mysql-client": "mysql",
    "ncat": "ncat",
    "netcat": "nc",
    "netcat-openbsd": "nc",
    "netcat-traditional": "nc",
    "nodejs": "node",
    "npm": "npm",
    "openssh-client": "ssh",
    "openssl": "openssl",
    "pandoc": "pandoc",
    "patch": "patch",
    "perl": "perl",
    "pkg-config": "pkg-config",
    "pkgconf": "pkg-config",
    "poppler-utils": "pdftotext",
    "postgresql-dev": "pg_config",
    "postgresql-client": "psql",
    "procps": "ps",
    "python3": "python3",
    "redis-tools": "redis-cli",
    "rsync": "rsync",
    "sed": "sed",
    "sqlite": "sqlite3",
    "sqlite3": "sqlite3",
    "tar": "tar",
    "tesseract-ocr": "tesseract",
    "unzip": "unzip",
    "wget": "wget",
    "xz": "xz",
    "xz-utils": "xz",
    "zip": "zip",
}
PROGRAMS = tuple(sorted({program for names in _PROGRAMS.values() for program in names.split()}))
"""All that these packages bring, of which a machine has some."""


def brought(package: str) -> tuple[str, ...] | None:
    """Returns the programs of a package, () where an app needs none; None for an unknown one."""
    name = package.partition("=")[0].partition(":")[0]
    if name in _NEEDLESS:
        return ()
    programs = _PROGRAMS.get(name)
    return tuple(programs.split()) if programs is not None else None
