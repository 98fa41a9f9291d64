"""Used nonces and counts of requests on a Valkey server (7.2 or later), or Redis (7.0 or later).

One sorted set, by timestamp, has the nonces of a *holder*, and its floor as one more member: none
can be lost without the other. A server that has started since, or took the place of another, may
have an older copy of the set, so each script asks for the server's `run_id` as well.
"""

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from valkey.asyncio import Valkey
from valkey.exceptions import NoScriptError, ValkeyError

from moorage.errors import ConfigurationInvalid
from moorage.storage.shared.holder import HolderAway, ValkeyServer
from moorage.storage.shared.together import Together

KEPT_MS = 600_000
"""How long a set outlives its last use; the mark is long in the past when it is forgotten."""

BODY_KEPT_MS = 150_000  # longer than a nonce is remembered
TIMEOUT_SECONDS = 1.0
_PREFIX = "moorage"
_RUN_ID_BYTES = 40  # hex digits at the beginning of a holder's name

_RUN_ID = "redis.call('INFO', 'server'):match('run_id:(%x+)')"
_BEGIN = f"""
if {_RUN_ID} ~= ARGV[1] then return 0 end
redis.call('ZADD', KEYS[1], ARGV[2], 'floor')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
_USE = f"""
local floor = redis.call('ZSCORE', KEYS[1], 'floor')
if not floor or {_RUN_ID} ~= ARGV[1] then return false end
if tonumber(ARGV[3]) <= tonumber(floor) then return {{0, floor}} end
local added = redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {{added, floor}}
"""
_FORGET = """
local found = redis.call(
    'ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
if not found[1] or found[1] == 'floor' then return end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', found[2])
redis.call('ZADD', KEYS[1], found[2], 'floor')
"""
_COUNT = """
local time = redis.call('TIME')
local now, window = time[1] * 1000000 + time[2], tonumber(ARGV[2])
local oldest = tonumber(redis.call('LINDEX', KEYS[1], 0) or nil)
while oldest and oldest <= now - window do
    redis.call('LPOP', KEYS[1])
    oldest = tonumber(redis.call('LINDEX', KEYS[1], 0) or nil)
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return oldest + window - now end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return 0
"""


class _Run(NamedTuple):
    script: Any
    key: str
    arguments: tuple[str | int, ...]


class ValkeyStore:
    """Used nonces and counts of requests, on one server. Each method raises HolderAway."""

    def __init__(self, url: str) -> None:
        """Connects as late as it is needed. Raises ConfigurationInvalid."""
        self._server = _client(url)
        script = self._server.register_script
        self._begin, self._use, self._forget, self._count = map(
            script, (_BEGIN, _USE, _FORGET, _COUNT)
        )
        self._runs = Together(self._run_all)

    async def close(self) -> None:
        """Closes the connections."""
        await self._server.aclose()

    async def name_holder(self) -> str:
        """Returns the name of a new holder on the server that now runs."""
        info = await _asked(self._server.info("server"))
        return f"{info['run_id']}{secrets.token_hex(8)}"

    async def begin(self, holder: str, floor_ms: int) -> None:
        """Makes the set of a new holder, which refuses timestamps up to `floor_ms`."""
        begun = self._begin([_nonces(holder)], [_run_id(holder), floor_ms, KEPT_MS])
        if not await _asked(begun):
            raise HolderAway("another server has taken its place")

    async def use(self, holder: str, digest: str, timestamp_ms: int) -> tuple[bool, int] | None:
        """Records a nonce; returns whether it is new, and the floor. None: all were lost.

        Nothing is recorded if its timestamp is not above the floor.
        """
        arguments = (_run_id(holder), digest, timestamp_ms, KEPT_MS)
        found = await self._run(self._use, _nonces(holder), *arguments)
        return None if found is None else (bool(found[0]), int(float(found[1])))

    async def forget(self, holder: str, until_ms: int) -> None:
        """Forgets the nonces up to a timestamp, and raises the floor to the newest of them."""
        await _asked(self._forget([_nonces(holder)], [until_ms]))

    async def remember_body(self, holder: str, digest: str, body: str) -> bool:
        """Remembers the body of a used nonce's request, unless another is; returns True."""
        key = _body(holder, digest)
        await _asked(self._server.set(key, body, nx=True, px=BODY_KEPT_MS))
        return True

    async def was_of_body(self, holder: str, digest: str, body: str) -> bool:
        """Whether that body is remembered."""
        return bool(await _asked(self._server.get(_body(holder, digest))) == body)

    async def count(self, holder: str, key: str, *, limit: int, window_us: int) -> int:
        """Counts a request unless `limit` passed in the window; returns microseconds to wait."""
        counts = f"{_PREFIX}:counts:{holder}:{key}"
        return int(await self._run(self._count, counts, limit, window_us))

    async def _run(self, script: Any, key: str, *arguments: str | int) -> Any:
        """Runs a script that has one key."""
        found = await self._runs.ask(_Run(script, key, arguments))
        if isinstance(found, NoScriptError):  # the server has started since
            return await _asked(script([key], arguments))
        if isinstance(found, ValkeyError):
            raise HolderAway(str(found)) from found
        return found

    async def _run_all(self, runs: Sequence[_Run]) -> list[Any]:
        """Runs scripts one after the other, in one round trip; an answer may be an error."""
        async with self._server.pipeline(transaction=False) as pipeline:
            for script, key, arguments in runs:
                pipeline.evalsha(script.sha, 1, key, *arguments)
            answers: list[Any] = await _asked(pipeline.execute(raise_on_error=False))
        return answers


async def look(url: str) -> ValkeyServer:
    """Returns what a server says of itself. Raises ConfigurationInvalid and HolderAway."""
    server = _client(url)
    try:
        info = await _asked(server.info())
    finally:
        await server.aclose()
    is_valkey = "valkey_version" in info
    version = str(info["valkey_version" if is_valkey else "redis_version"]).split(".")
    return ValkeyServer(
        name="Valkey" if is_valkey else "Redis",
        version=(int(version[0]), int(version[1])),
        replica=info["role"] != "master",
        evicts=str(info["maxmemory_policy"]),
    )


def _client(url: str) -> Any:
    scheme, _, rest = url.partition("://")
    given: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
    }
    if scheme in ("valkeys", "rediss"):
        given["ssl_check_hostname"] = True
    known = scheme.replace("redis", "valkey")  # the only words that the library knows
    try:
        client: Any = Valkey.from_url(f"{known}://{rest}", **given)
        client.connection_pool.make_connection()  # connects to nothing, and knows all options
    except (ValueError, TypeError):
        # The library's own sentence may quote a part of the password.
        raise ConfigurationInvalid(
            "valkey_url: it is not of the form valkey://user:password@host:6379/0. Characters "
            "such as @ / : ? # % in the password are written as %40 %2F %3A %3F %23 %25."
        ) from None
    return client


async def _asked(answer: Any) -> Any:
    try:
        return await answer
    except (ValkeyError, OSError) as error:
        raise HolderAway(str(error) or "it does not answer") from error


def _run_id(holder: str) -> str:
    return holder[:_RUN_ID_BYTES]


def _nonces(holder: str) -> str:
    return f"{_PREFIX}:nonces:{holder}"


def _body(holder: str, digest: str) -> str:
    return f"{_PREFIX}:bodies:{holder}:{digest}"
