"""What planners are given in tests: a machine's own programs, and what npm's packages hold."""

from moorage.planning.toolbox import Toolbox

TOOLBOX = Toolbox(
    host={
        "node": ("20.20.2",),
        "npm": ("11.19.1",),
        "python": ("3.11.2", "3.13.5"),
        "java": ("17.0.21",),
        "javac": ("17.0.21",),
        "maven": ("3.9.9",),
        "caddy": ("2.10.2",),
        "uv": ("0.9.13",),
    },
    store={
        "node": ("18.20.8", "20.11.1", "20.20.2", "22.23.3", "23.11.1", "24.14.0", "26.10.0"),
        "npm": ("6.14.18", "8.19.4", "9.9.4", "10.9.4", "11.19.1", "12.2.0"),
        "pnpm": ("7.33.7", "8.15.9", "9.15.0", "9.15.9", "10.33.0", "11.21.2", "12.21.0"),
        "yarn": ("1.22.19", "1.22.22", "2.4.3", "3.8.7", "4.9.2", "4.18.1"),
        "bun": ("1.2.23", "1.4.5"),
        "deno": ("2.9.6",),
        "rust": ("1.95.0",),
    },
)
EVERYTHING = Toolbox(
    host={
        **TOOLBOX.host,
        "go": ("1.24.4",),
        "php": ("8.4.16",),
        "composer": ("2.8.8",),
        "ruby": ("3.3.8",),
        "bundler": ("2.6.7",),
        "gradle": ("8.14.0",),
    },
    store=TOOLBOX.store,
    programs=("ext-ctype", "ext-iconv", "ext-json", "ext-mbstring", "ext-openssl", "ext-tokenizer"),
)
