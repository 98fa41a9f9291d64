"""Queries over certificates: who may have them, those that there are, and what to order."""

from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from moorage.storage.database import (
    Source,
    Statement,
    Transaction,
    Upsert,
    columns_of,
    given,
    parameters,
)
from moorage.storage.schema import acme_challenges, authorities, certificates

_NOW = bindparam("now_ms", type_=BigInteger)
_this = certificates.c.host == bindparam("of_host")
_free = or_(
    certificates.c.ordered_until_ms.is_(None),
    certificates.c.ordered_until_ms <= _NOW,
    certificates.c.ordered_until_ms > bindparam("latest_ms"),  # the clock was set back since
)


class Asked(NamedTuple):
    """When a name was last wanted, and whether one is ordered for it some time."""

    asked_at_ms: int
    is_ordered: bool


class Due(NamedTuple):
    """A name for which a certificate is to be ordered now."""

    name: str
    fence: int
    failures: int
    not_after_ms: int | None  # of the present one, which is renewed


class Issued(NamedTuple):
    """A certificate that there is; the key is sealed."""

    chain: str
    sealed_key: str
    pem_sha256: str
    not_before_ms: int
    not_after_ms: int
    authority: str
    order_at_ms: int


class Problem(NamedTuple):
    """Why a name has no certificate, and when one is ordered next."""

    text: str
    order_at_ms: int | None


_ASKED = Statement(
    select(certificates.c.asked_at_ms, certificates.c.order_at_ms).where(
        *given(certificates, "host")
    )
)
_ASKED_SINCE = Statement(
    select(certificates.c.host).where(
        certificates.c.asked_at_ms > bindparam("since_ms"), certificates.c.order_at_ms.is_not(None)
    )
)
_TOUCH = Statement(
    update(certificates)
    .where(_this)
    .values(asked_at_ms=_NOW, order_at_ms=func.coalesce(certificates.c.order_at_ms, _NOW))
)
_COUNT = Statement(
    select(func.count())
    .select_from(certificates)
    .where(*given(certificates, "wallet"), certificates.c.first_at_ms > bindparam("since_ms"))
)
_ADD = Statement(
    insert(certificates).values(
        host=bindparam("host"),
        wallet=bindparam("wallet"),
        first_at_ms=_NOW,
        asked_at_ms=_NOW,
        order_at_ms=_NOW,
    )
)
_FORGET = Statement(delete(certificates).where(certificates.c.asked_at_ms < bindparam("until_ms")))
_DUE = Statement(
    select(
        certificates.c.host,
        certificates.c.fence,
        certificates.c.failures,
        certificates.c.not_after_ms,
    )
    .where(
        or_(
            certificates.c.order_at_ms <= _NOW,
            and_(  # it was set before the clock was set back
                certificates.c.order_at_ms > bindparam("latest_order_ms"),
                certificates.c.chain.is_(None),
            ),
        ),
        certificates.c.asked_at_ms > bindparam("wanted_ms"),
        _free,
    )
    .order_by(
        case(
            (certificates.c.not_after_ms < bindparam("urgent_ms"), 0),
            (certificates.c.not_after_ms.is_(None), 1),
            else_=2,
        ),
        certificates.c.order_at_ms,
        certificates.c.host,
    )
    .limit(bindparam("limit"))
)
_ORDERED_SINCE = Statement(
    select(func.count())
    .select_from(certificates)
    .where(
        certificates.c.ordered_at_ms > bindparam("since_ms"), certificates.c.ordered_at_ms <= _NOW
    )
)
_CLAIM = Statement(
    update(certificates)
    .where(_this, *given(certificates, fence="of_fence"), _free)
    .values(
        fence=certificates.c.fence + 1, ordered_until_ms=bindparam("until_ms"), ordered_at_ms=_NOW
    )
)
_ISSUE = Statement(
    update(certificates)
    .where(_this, *given(certificates, fence="of_fence"))
    .values(
        {f"{name}": bindparam(f"new_{name}") for name in Issued._fields}
        | {"ordered_until_ms": null(), "failures": 0, "problem": ""}
    )
)
_FAIL = Statement(
    update(certificates)
    .where(_this, *given(certificates, fence="of_fence"))
    .values(
        ordered_until_ms=null(),
        order_at_ms=bindparam("next_ms"),
        failures=bindparam("new_failures"),
        problem=bindparam("new_problem"),
    )
)
_GIVE_BACK = Statement(
    update(certificates)
    .where(_this, *given(certificates, fence="of_fence"))
    .values(ordered_until_ms=null(), ordered_at_ms=null())
)
_MARK = Statement(
    select(
        func.count(certificates.c.not_after_ms),
        cast(func.coalesce(func.sum(certificates.c.not_after_ms), 0), BigInteger),
    )
)
_VALID = Statement(
    select(certificates.c.host, certificates.c.pem_sha256, certificates.c.not_after_ms).where(
        certificates.c.not_after_ms > _NOW
    )
)
_END = Statement(select(certificates.c.not_after_ms).where(*given(certificates, "host")))
_FIRST_END = Statement(
    select(func.min(certificates.c.not_after_ms)).where(
        certificates.c.asked_at_ms > bindparam("wanted_ms")
    )
)
_ISSUED = Statement(
    select(*columns_of(certificates, Issued)).where(
        *given(certificates, "host"), certificates.c.chain.is_not(None)
    )
)
_PROBLEM = Statement(
    select(certificates.c.problem, certificates.c.order_at_ms).where(*given(certificates, "host"))
)
_ADD_CHALLENGE = Statement(
    Upsert(
        table=acme_challenges,
        values=parameters(("token", "host", "answer", "expires_at_ms")),
        replaced=("host", "answer", "expires_at_ms"),
    )
)
_REMOVE_CHALLENGE = Statement(
    delete(acme_challenges).where(acme_challenges.c.token == bindparam("of_token"))
)
_OLD_CHALLENGES = Statement(
    delete(acme_challenges).where(acme_challenges.c.expires_at_ms < bindparam("until_ms"))
)
_ANSWER = Statement(select(acme_challenges.c.answer).where(*given(acme_challenges, "token")))
_AUTHORITY = Statement(
    select(authorities.c.sealed_key, authorities.c.account).where(*given(authorities, "directory"))
)
_ADD_AUTHORITY = Statement(
    Upsert(table=authorities, values=parameters(("directory", "sealed_key", "account")))
)
_FORGET_AUTHORITY = Statement(
    delete(authorities).where(*given(authorities, directory="of_directory"))
)


async def asked(source: Source, host: str) -> Asked | None:
    """Returns when a name was last wanted that may have a certificate, else None."""
    row = await source.one(_ASKED, host=host)
    return None if row is None else Asked(int(row[0]), row[1] is not None)


async def asked_since(source: Source, since_ms: int) -> set[str]:
    """Returns the names that were wanted after `since_ms`."""
    return set(await source.values(_ASKED_SINCE, since_ms=since_ms))


async def touch(tx: Transaction, host: str, *, now_ms: int) -> bool:
    """Records that a name is wanted; returns whether it may have a certificate already."""
    return bool(await tx.execute(_TOUCH, of_host=host, now_ms=now_ms))


async def count_since(tx: Transaction, wallet: str, *, since_ms: int) -> int:
    """Returns how many hosts of a wallet were first allowed a certificate after `since_ms`."""
    return await tx.number(_COUNT, wallet=wallet, since_ms=since_ms)


async def add(tx: Transaction, host: str, *, wallet: str, now_ms: int) -> None:
    """Allows a new name to have a certificate, which is to be ordered now."""
    await tx.execute(_ADD, host=host, wallet=wallet, now_ms=now_ms)


async def forget(tx: Transaction, *, until_ms: int) -> None:
    """Removes the names that were last wanted before `until_ms`."""
    await tx.execute(_FORGET, until_ms=until_ms)


async def due(
    source: Source,
    *,
    now_ms: int,
    wanted_ms: int,
    urgent_ms: int,
    latest_ms: int,
    latest_order_ms: int,
    limit: int,
) -> list[Due]:
    """Returns names to order for, wanted since `wanted_ms`; first those that end by `urgent_ms`.

    An order that ends after `latest_ms`, and a first one that is put off until after
    `latest_order_ms`, were recorded before the clock was set back: they count as due.
    """
    return await source.records(
        Due,
        _DUE,
        now_ms=now_ms,
        wanted_ms=wanted_ms,
        urgent_ms=urgent_ms,
        latest_ms=latest_ms,
        latest_order_ms=latest_order_ms,
        limit=limit,
    )


async def ordered_since(source: Source, *, since_ms: int, now_ms: int) -> int:
    """Returns for how many names an order that counts was begun after `since_ms`."""
    return await source.number(_ORDERED_SINCE, since_ms=since_ms, now_ms=now_ms)


async def claim(
    tx: Transaction, name: str, *, fence: int, now_ms: int, until_ms: int, latest_ms: int
) -> bool:
    """Begins an order, unless another is under way or has ended since; its fence is one more."""
    given = {"now_ms": now_ms, "until_ms": until_ms, "latest_ms": latest_ms}
    return bool(await tx.execute(_CLAIM, of_host=name, of_fence=fence, **given))


async def issue(tx: Transaction, name: str, issued: Issued, *, fence: int) -> bool:
    """Stores a certificate; returns False if the order is no longer its holder's."""
    given = {f"new_{field}": value for field, value in issued._asdict().items()}
    return bool(await tx.execute(_ISSUE, of_host=name, of_fence=fence, **given))


async def fail(
    tx: Transaction, name: str, *, fence: int, failures: int, problem: str, next_ms: int
) -> None:
    """Records why an order failed, and when to try next."""
    await tx.execute(
        _FAIL,
        of_host=name,
        of_fence=fence,
        new_failures=failures,
        new_problem=problem,
        next_ms=next_ms,
    )


async def give_back(tx: Transaction, name: str, *, fence: int) -> None:
    """Ends an order that was not sent: it counts for no limit, and is due at once."""
    await tx.execute(_GIVE_BACK, of_host=name, of_fence=fence)


async def mark(source: Source) -> tuple[int, int]:
    """Returns how many certificates there are, and a number that changes with them."""
    row = await source.one(_MARK)
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


async def valid(source: Source, *, now_ms: int) -> list[tuple[str, str, int]]:
    """Returns name, digest and end of each certificate that has not expired."""
    rows = await source.all(_VALID, now_ms=now_ms)
    return [(str(name), str(digest), int(end_ms)) for name, digest, end_ms in rows]


async def not_after_ms(source: Source, name: str) -> int | None:
    """Returns when the certificate of a name ends; None without one."""
    return await source.value(_END, host=name)


async def first_end_ms(source: Source, *, wanted_ms: int) -> int | None:
    """Returns when the first certificate ends of those that were wanted since `wanted_ms`."""
    return await source.value(_FIRST_END, wanted_ms=wanted_ms)


async def issued(source: Source, name: str) -> Issued | None:
    """Returns the certificate of a name, or None."""
    return await source.record(Issued, _ISSUED, host=name)


async def problem(source: Source, name: str) -> Problem:
    """Returns why the last order for a name failed; "" if none did."""
    row = await source.one(_PROBLEM, host=name)
    return Problem("", None) if row is None else Problem(*row)


async def add_challenge(
    tx: Transaction, token: str, *, host: str, answer: str, expires_at_ms: int
) -> None:
    """Stores what is to be answered an authority that asks for the token."""
    await tx.execute(
        _ADD_CHALLENGE, token=token, host=host, answer=answer, expires_at_ms=expires_at_ms
    )


async def remove_challenges(tx: Transaction, token: str, *, expired_ms: int) -> None:
    """Removes a challenge, and those that expired before `expired_ms`."""
    await tx.execute(_REMOVE_CHALLENGE, of_token=token)
    await tx.execute(_OLD_CHALLENGES, until_ms=expired_ms)


async def answer(source: Source, token: str) -> str | None:
    """Returns what to answer an authority that asks for the token, or None."""
    return await source.value(_ANSWER, token=token)


async def authority(source: Source, directory: str) -> tuple[str, str] | None:
    """Returns the sealed key and the account at an authority, or None."""
    row = await source.one(_AUTHORITY, directory=directory)
    return None if row is None else (str(row[0]), str(row[1]))


async def add_authority(tx: Transaction, directory: str, *, sealed_key: str, account: str) -> None:
    """Stores the account at an authority, unless another gateway has done so."""
    await tx.execute(_ADD_AUTHORITY, directory=directory, sealed_key=sealed_key, account=account)


async def forget_authority(tx: Transaction, directory: str) -> None:
    """Removes the account at an authority that does not know it any more."""
    await tx.execute(_FORGET_AUTHORITY, of_directory=directory)
