"""Finds programs of compiled languages that listen on no port, by the libraries they use."""

import re
import tomllib
from importlib import resources
from itertools import islice

from moorage.planning.plan import no_port
from moorage.planning.reading.folder import Folder

_TABLES: dict[str, dict[str, str]] = tomllib.loads(
    resources.files("moorage.planning.languages").joinpath("portless.toml").read_text()
)
_ENDINGS = {"go": (".go",), "rust": (".rs",), "java": (".java", ".kt")}
_LISTENS = {
    "go": rb"ListenAndServe|\bnet\.Listen|http\.Serve|\.Listen\(|\bgin\.|\becho\.New|\bchi\.New"
    rb"|\bPORT\b|[wW]ebhook|grpc\.NewServer|fasthttp",
    "rust": rb"TcpListener|\.bind\(|\bserve\(|\bPORT\b|webhook|axum|actix_web|warp::|rocket|poem"
    rb"|hyper|tiny_http|tonic",
    "java": rb"HttpServer|ServerSocket|springframework|javalin|\bPORT\b|[wW]ebhook|vertx|undertow"
    rb"|jetty|netty|ktor|micronaut|quarkus|spark\.Spark",
}
_FILES_LIMIT = 200
_LIMIT = 65_536  # bytes of each


def portless(folder: Folder, language: str, file: str) -> str:
    """Returns the refusal of a program that nobody can visit; "" for others.

    `file` lists its libraries.
    """
    listed = folder.data(file, limit=_LIMIT)
    table = _TABLES[language].items()
    found = next(((name, what) for name, what in table if _is_listed(name, listed)), None)
    sources = (name for name in folder.names() if name.endswith(_ENDINGS[language]))
    if found is None:
        return ""
    listens = re.compile(_LISTENS[language])
    if listens.search(listed):
        return ""
    names = list(islice(sources, _FILES_LIMIT + 1))
    if len(names) > _FILES_LIMIT:
        return ""
    if any(listens.search(folder.data(name, limit=_LIMIT)) for name in names):
        return ""
    name, what = found
    return f"{no_port(f'{folder.path(file)} says that this is {what} ({name})')}."


def _is_listed(name: str, listed: bytes) -> bool:
    return name.encode() in listed and bool(
        re.search(rb"(?<![\w./-])%b(?![\w-])" % re.escape(name.encode()), listed)
    )
