"""Finds programs of compiled languages that listen on no port, by the libraries they use."""

import re

from moorage.planning.plan import no_port
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, table

_TABLES: dict[str, dict[str, str]] = table("languages/portless")
_ENDINGS = {"go": (".go",), "rust": (".rs",), "java": (".java", ".kt")}
_LISTENS = {
    "go": rb"\"net(?:/\w+)?\"|\"os/exec\"|\"syscall\"|\"C\"|ListenAndServe"
    rb"|\bnet\.Listen|http\.Serve|\.Listen\(|\bgin\.|\becho\.New|\bchi\.New"
    rb"|\bPORT\b|[wW]ebhook|grpc\.NewServer|fasthttp",
    "rust": rb"\bnet::|\bCommand::new|\bextern\b|TcpListener"
    rb"|\.bind\(|\bserve\(|\bPORT\b|webhook|axum|actix_web|warp::|rocket|poem"
    rb"|hyper|tiny_http|tonic",
    "java": rb"\bjava\.net\b|nio\.channels|ProcessBuilder|HttpServer"
    rb"|ServerSocket|springframework|javalin|\bPORT\b|[wW]ebhook|vertx|undertow"
    rb"|jetty|netty|ktor|micronaut|quarkus|spark\.Spark",
}
_CONSOLE = {
    "go": rb"\bfmt\.(?:Print|Scan)|\bos\.Args|\bflag\.",
    "rust": rb"\bprintln!|\bstdin\(|\benv::args\b",
    "java": rb"\bSystem\.(?:out|in)\b",
}
"""What a program does that talks to a person at its terminal."""
_FILES_LIMIT = 200


def portless(folder: Folder, language: str, file: str) -> str:
    """Returns the refusal of a program that nobody can visit; "" for others.

    `file` lists its libraries; "" if nothing does.
    """
    listed = folder.source(file)
    kinds = by_word(_TABLES[language])
    found = next((name for name in kinds if _is_listed(name, listed)), None)
    if found is None and not _is_quiet(language, listed):
        return ""
    listens = re.compile(_LISTENS[language])
    if listens.search(listed):
        return ""
    names = folder.ending(*_ENDINGS[language])
    if not names or len(names) > _FILES_LIMIT:
        return ""
    texts = [folder.source(name) for name in names]
    if any(listens.search(text) for text in texts):
        return ""
    if found is None:
        if not any(re.search(_CONSOLE[language], text) for text in texts):
            return ""
        return f"{no_port(f'{folder.path(names[0])} is of a program that serves nothing')}."
    return f"{no_port(f'{folder.path(file)} says that this is {kinds[found]} ({found})')}."


def _is_quiet(language: str, listed: bytes) -> bool:
    """Whether no library is listed that may listen."""
    if language != "rust":
        return not listed if language == "java" else b"require" not in listed
    crates = _CRATES.search(listed + b"\n")
    names = _CRATE.findall(crates[1]) if crates is not None else []
    quiet = set(_TABLES["quiet"]["names"].split())
    is_one = b"[workspace" not in listed and b"[dependencies." not in listed
    return is_one and all(name.decode() in quiet for name in names)


_CRATES = re.compile(rb"^\[dependencies\]\n((?:[^\[\n][^\n]*\n|\n)*)", re.MULTILINE)
_CRATE = re.compile(rb"^([\w-]{1,80})[ \t]*=", re.MULTILINE)


def _is_listed(name: str, listed: bytes) -> bool:
    return name.encode() in listed and bool(
        re.search(rb"(?<![\w./-])%b(?![\w-])" % re.escape(name.encode()), listed)
    )
