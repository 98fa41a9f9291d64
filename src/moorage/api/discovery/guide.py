"""How an agent uses the gateway: one text, which is `/llms.txt`, `/` for agents, and the skill."""

from importlib.resources import files
from string import Template

from moorage.api.discovery.facts import NAME, QUOTE_MINUTES, SUMMARY, UPLOAD_MIB, Facts
from moorage.money import usd_text
from moorage.uploads.request import MAX_MONTHS

SKILL = "moorage"

_TEST_VECTOR = {
    "test_key": "0x" + 32 * "42",
    "test_text": "0x17c5185167401eD00cF5F5b2fc97D9BBfDb7D025:1767225600000:"
    "6f1c2a9e-0d3b-4c58-8a71-2b9d5e4f7a60",
    "test_signature": "0x7dd7f95dcbf8b9aaf7a7ae6ac0f4cea40341f9396ca1b09cd38b61fafaaaaa71"
    "1f98c343f3bc7d08f749c6bc3cb5516874af81678b7bb3b020502b91ddce93c81c",
}


def template(name: str) -> Template:
    """Returns a text of this room, with `$names` for what facts say."""
    return Template(files(__package__).joinpath(name).read_text("utf-8"))


def llms_text(facts: Facts) -> str:
    """Returns the whole text."""
    return template("guide.md").substitute(words(facts), **_TEST_VECTOR)


def skill_text(facts: Facts) -> str:
    """Returns it as an agent skill (`SKILL.md`), under another heading."""
    _, _, body = llms_text(facts).partition("\n")
    front = f"name: {SKILL}\ndescription: {skill_description(facts)}\nlicense: Apache-2.0"
    return f"---\n{front}\n---\n\n# Deploy with {NAME}\n{body}"


def skill_description(facts: Facts) -> str:
    """Returns what the skill does, and when it is to be used."""
    return (
        f"Deploys web apps to {facts.url} and pays for them with a crypto wallet. Use it to put an "
        "app or a site online, to change, extend, roll back or delete it, or to read its logs."
    )


def words(facts: Facts) -> dict[str, object]:
    """Returns what the texts of this room have in places of `$names`."""
    return {
        "name": NAME,
        "summary": SUMMARY,
        "url": facts.url,
        "price": facts.price_text,
        "month": usd_text(facts.month),
        "chains": facts.chains_text,
        "pay_to": facts.seller.pay_to,
        "gas": " The gateway pays the gas." if facts.settles else "",
        "data": _data(facts),
        "refunds": facts.seller.refunds,
        "operator": _operator(facts),
        "max_months": MAX_MONTHS,
        "build_minutes": facts.build_minutes_per_usd,
        "retention_days": facts.retention_days,
        "upload_mib": UPLOAD_MIB,
        "quote_minutes": QUOTE_MINUTES,
        "requests": facts.requests_per_minute,
    }


def _data(facts: Facts) -> str:
    if facts.volume_mib is None:
        return "this gateway has no volumes; files that an app writes are lost at the next deploy."
    return (
        f"`settings.volume: true` gives the project `/data` (`DATA_DIR`, {facts.volume_mib} MiB). "
        "All other files that an app writes are lost at the next deploy."
    )


def _operator(facts: Facts) -> str:
    terms, contact = facts.seller.terms_url, facts.seller.contact
    return f"Terms: {terms or 'none are given'}. Contact: {contact or 'none is given'}."
