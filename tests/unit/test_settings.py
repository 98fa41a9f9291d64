from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.chains.chain import KNOWN_CHAINS, ChainSettings
from moorage.cli.operator.serve import check
from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.gateway.configuration import serving_chains
from moorage.records.size import PriceList, Size
from moorage.settings import Settings, described, load_settings, needed_first, tables

FIELDS = [each for each in msgspec.structs.fields(Settings) if each.name in tables()]
OPERATOR = "0x" + "0e" * 20
DAI = {"name": "dai", "symbol": "DAI", "address": "0x" + "d1" * 20, "decimals": 18}


def load(environ: dict[str, str] | None = None, **given: Any) -> Settings:
    return load_settings(file=None, environ=environ or {}, **given)


def from_file(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "moorage.toml"
    file.write_text(text)
    return load_settings(file=file, environ=environ)


def chain(name: str, **fields: Any) -> Any:
    settings = load(chains={name: {"rpc_urls": ["https://node.example"]} | fields})
    return settings.chains[name].chain(name)


def refused(**given: Any) -> InvalidField:
    with pytest.raises(InvalidField) as error:
        load(**given)
    return error.value


def test_defaults_need_no_file_and_no_environment() -> None:
    settings = load()
    assert (settings.port, settings.base_domain, settings.tls) == (8402, "localhost", False)
    assert (settings.price_list, settings.size_list.default) == (PriceList(), Size())


def test_operator_port_is_on_loopback_unless_it_is_for_everybody() -> None:
    """The proxy asks it on loopback, so it can't be on another address alone."""
    assert load().operator_host == "127.0.0.1"
    assert load(operator_listen="0.0.0.0:1").operator_host == "0.0.0.0"
    assert "operator_listen" in str(refused(operator_listen="192.0.2.1:1"))


@pytest.mark.parametrize(
    ("wallets", "public_url", "are_public"),
    [
        ((OPERATOR,), "https://gateway.example.com", True),
        ((OPERATOR,), "http://gateway.example.com", False),
        ((OPERATOR,), "", False),
        ((), "https://gateway.example.com", False),
    ],
)
def test_operators_pages_are_public_over_https_alone_and_where_wallets_may_sign_in(
    wallets: tuple[str, ...], public_url: str, are_public: bool
) -> None:
    settings = load(operator_wallets=wallets, public_url=public_url)
    assert settings.has_public_operator_pages is are_public


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:65535", ("::1", 65_535)),
        ("gateway.internal:8402", ("gateway.internal", 8402)),
    ],
)
def test_address_has_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    settings = load(listen=address, proxy_listen=address)
    assert (settings.host, settings.port) == (settings.proxy_host, settings.proxy_port) == parts


def test_authoritys_account_stands_in_its_directory_and_is_not_shown() -> None:
    url = "https://acme.example/directory"
    settings = load(acme_directories=("https://my%40name:k-_y@acme.example/directory", "internal"))
    assert settings.authorities == {url: ("my@name", "k-_y"), "internal": None}
    assert "k-_y" not in str(described(settings))


@pytest.mark.parametrize("closed", [True, False])
def test_the_chain_that_is_offered_first_is_one_that_is_open(closed: bool) -> None:
    node = {"rpc_urls": ["https://node.example"]}
    chains = {"arbitrum": node | {"closed": closed}, "base": node}
    assert serving_chains(load(chains=chains, offer_first="base")).keys() == chains.keys()
    wrong = load(chains=chains, offer_first="arbitrum" if closed else "optimism")
    with pytest.raises(ConfigurationInvalid, match="offer_first"):
        serving_chains(wrong)


@pytest.mark.parametrize("contact", ["help@example.com", "https://example.com/help"])
def test_a_contact_is_a_mail_address_or_a_url(contact: str) -> None:
    assert load(contact=contact).contact == contact


def test_books_are_a_file_unless_a_server_is_named(tmp_path: Path) -> None:
    assert load(data_dir=str(tmp_path)).database == tmp_path / "moorage.db"
    url = "postgresql://moorage:s3cret@db.example/moorage"
    settings = load({"MOORAGE_DATABASE_URL": url}, data_dir=str(tmp_path))
    assert settings.database == url
    assert "s3cret" not in f"{settings} {settings!r} {[settings]}"


def test_database_of_another_kind_is_refused_without_its_password() -> None:
    error = refused(database_url="mysql://moorage:s3cret@db.example/moorage")
    assert "database_url" in str(error)
    assert "s3cret" not in str(error)


def test_clusters_credentials_are_the_files_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "pull.json").touch()
    settings = load(kubernetes_credentials=str(tmp_path))
    assert settings.kubernetes_credential("pull.json") == str(tmp_path / "pull.json")
    assert settings.kubernetes_credential("registry.json") == ""
    assert load().kubernetes_credential("pull.json") == ""


def test_data_dir_is_made_absolute() -> None:
    assert load().data_dir == str(Path.cwd() / ".moorage")
    assert load(data_dir="/srv/moorage").data_dir == "/srv/moorage"


def test_command_line_wins_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "moorage.toml"
    file.write_text(
        '[api]\nlisten = "a:1"\noperator_listen = "0.0.0.0:1"\n[proxy]\nproxy_listen = "b:1"\n'
    )
    environ = {"MOORAGE_PROXY_LISTEN": "c:2", "MOORAGE_OPERATOR_LISTEN": "127.0.0.1:2"}
    settings = load_settings(file=file, environ=environ, operator_listen=3, listen=None)
    assert (settings.listen, settings.proxy_listen) == ("a:1", "c:2")
    assert settings.operator_listen == "127.0.0.1:3"


def test_first_gateway_needs_eight_settings_which_the_help_of_check_names() -> None:
    assert len(needed_first()) == 8
    assert [name for name in needed_first() if f"`{name}`" not in str(check.__doc__)] == []


def test_every_setting_says_what_it_is() -> None:
    described = {
        field.name: getattr(getattr(field.type, "__metadata__", (None,))[-1], "description", None)
        for field in FIELDS
    }
    assert [name for name, text in described.items() if not text] == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1", "colour"),
        ("[chains.base]\nrpc_urls = ['https://a']\ncolour = 1", "colour"),
        ("[[chains.base.tokens]]\nname='a'\nsymbol='A'\naddress='0x'\ndecimals=1\nx=1", "x"),
        ("[api]\nlisten = 'a:eighty'", "listen"),
        ("[api]\nlisten = 'a:65536'", "listen"),
        ("[api]\nlisten = 8402", "listen"),
        ("[api]\nrequests_per_minute = 0", "requests_per_minute"),
        ("[builds]\nbuild_seconds = 541", "build_seconds"),
        ("[builds.build_env]\nA = 1", "build_env"),
        ("[apis]\ncolour = 1", "apis"),
        ("[api]\ncolour = 1", r"api\.colour"),
        ("api = 1", "api"),
        ("[api]\nterms_url = 'example.com/terms'", "terms_url"),
        ("[api]\nterms_url = 'javascript:alert(1)'", "terms_url"),
        ("[api]\nterms_url = 'https://example.com/<b>'", "terms_url"),
        ("[api]\ncontact = 'ask me'", "contact"),
        ('[api]\ncontact = "a@example.com\\n"', "contact"),
        ("[api]\ncontact = 'ftp://example.com'", "contact"),
    ],
)
def test_unknown_keys_and_wrong_values_are_refused_with_their_path(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(InvalidField, match=says):
        from_file(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("listen = 'a:1'", "listen", "[api]"),
        ("[proxy]\nlisten = 'a:1'", "proxy.listen", "[api]"),
        ("[builds]\napp_memory_mib = 64", "builds.app_memory_mib", "[apps]"),
        ("[api]\ndata_dir = 'x'", "api.data_dir", "at the top"),
        ("[api.chains.base]\nrpc_urls = ['https://a']", "api.chains", "at the top"),
    ],
)
def test_setting_in_another_table_is_told_its_own(
    tmp_path: Path, text: str, path: str, says: str
) -> None:
    with pytest.raises(InvalidField) as error:
        from_file(tmp_path, text)
    assert error.value.field == path
    assert says in error.value.message


def test_all_keys_that_are_unknown_or_misplaced_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "moorage.toml"
    file.write_text("api = 1\ncolour = 1\n[builds]\napp_memory_mib = 64\n[proxy]\nhue = 2\n")
    with pytest.raises(InvalidField) as error:
        load_settings(file=file, environ={"MOORAGE_TLS": "True", "MOORAGE_SHADE": "1"})
    lines = error.value.message.splitlines()
    fields = ["api", "colour", "builds.app_memory_mib", "proxy.hue", "MOORAGE_TLS", "MOORAGE_SHADE"]
    assert [line.partition(":")[0] for line in lines] == fields


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"port = 1\nport = 2"])
def test_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "moorage.toml"
    file.write_bytes(content)
    with pytest.raises(InvalidField) as error:
        load_settings(file=file, environ={})
    assert error.value.field == str(file)


def test_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match=r"none\.toml"):
        load_settings(file=tmp_path / "none.toml", environ={})


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("MOORAGE_LISTEN", "a:9000", "port", 9000),
        ("MOORAGE_REQUESTS_PER_MINUTE", "7", "requests_per_minute", 7),
        ("MOORAGE_BASE_DOMAIN", "1234", "base_domain", "1234"),
        ("MOORAGE_TLS", "true", "tls", True),
        ("MOORAGE_TRUSTED_PROXIES", "10.0.0.0/8, ::1 ,", "trusted_proxies", ("10.0.0.0/8", "::1")),
        ("MOORAGE_TRUSTED_PROXIES", "", "trusted_proxies", ()),
        ("MOORAGE_BUILD_ENV", '{"A": "b"}', "build_env", {"A": "b"}),
        ("MOORAGE_listen", "a:9000", "port", 9000),
    ],
)
def test_variables_are_read_by_the_type_of_their_setting(
    variable: str, text: str, field: str, value: object
) -> None:
    assert getattr(load({variable: text}), field) == value


def test_chains_may_come_from_a_variable() -> None:
    settings = load({"MOORAGE_CHAINS": '{"base": {"rpc_urls": ["https://node.example"]}}'})
    assert settings.chains == {"base": ChainSettings(rpc_urls=("https://node.example",))}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MOORAGE_COLOUR", "red"),
        ("MOORAGE_", "x"),
        ("MOORAGE_PORTS", "1"),
        ("MOORAGE_GATEWAYS", "x"),
        ("MOORAGE_CONFIG_FILE", "x"),
        ("MOORAGE_RPC_URL", "x"),
        ("MOORAGE_REQUESTS_PER_MINUTE", "eighty"),
        ("MOORAGE_REQUESTS_PER_MINUTE", ""),
        ("MOORAGE_TLS", "True"),
        ("MOORAGE_BUILD_ENV", "A=b"),
    ],
)
def test_unknown_and_unreadable_variables_are_refused_by_name(variable: str, text: str) -> None:
    with pytest.raises(InvalidField) as error:
        load({variable: text})
    assert error.value.field == variable


def test_variables_of_the_client_commands_and_of_others_are_passed_over() -> None:
    environ = {
        "MOORAGE_GATEWAY": "https://gateway.example",
        "MOORAGE_PRIVATE_KEY": "0x1",
        "MOORAGE_RPC_URL_ARBITRUM": "https://node.example",
        "MOORAGE_CONFIG": "moorage.toml",
        "MOORAGE_STATE_DIR": "/tmp",
        "PORT": "1",
        "moorage_port": "1",
    }
    assert load(environ) == load()


def test_known_chain_needs_its_nodes_alone() -> None:
    found = chain("arbitrum", confirmations=3)
    known = KNOWN_CHAINS["arbitrum"]
    assert (found.chain_id, found.tokens, found.confirmations) == (42161, known.tokens, 3)
    assert found.rpc_urls == ("https://node.example",)


def test_other_chain_is_described_whole() -> None:
    found = chain("gnosis", chain_id=100, tokens=[DAI])
    assert (found.name, found.chain_id) == ("gnosis", 100)
    (token,) = found.tokens
    assert (token.key, token.decimals) == ("0x" + "d1" * 20, 18)


@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("gnosis", {"chain_id": 100}, "chains.gnosis"),
        ("gnosis", {"tokens": [DAI]}, "chains.gnosis"),
        ("arbitrum", {"rpc_urls": []}, "chains.arbitrum"),
        ("Arbitrum", {"chain_id": 42161, "tokens": [DAI]}, "chains.Arbitrum"),
        ("arbitrum", {"rpc_urls": ["node.example"]}, "chains.arbitrum.rpc_urls"),
        ("arbitrum", {"tokens": [DAI, DAI]}, "chains.arbitrum.tokens"),
        ("arbitrum", {"tokens": [DAI | {"name": "DAI"}]}, "chains.arbitrum.tokens.DAI"),
        (
            "arbitrum",
            {"tokens": [DAI | {"address": "0x12"}]},
            "chains.arbitrum.tokens.dai.address",
        ),
        ("arbitrum", {"tokens": [DAI | {"decimals": -1}]}, "chains.arbitrum.tokens.dai.decimals"),
        ("arbitrum", {"tokens": [DAI | {"decimals": 37}]}, "chains.arbitrum.tokens.dai.decimals"),
    ],
)
def test_chain_that_could_not_take_payments_is_refused(
    name: str, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as error:
        chain(name, **fields)
    assert error.value.field == field


@pytest.mark.parametrize("fields", [{"chain_id": 0}, {"confirmations": 0}])
def test_numbers_of_a_chain_have_bounds(fields: dict[str, int]) -> None:
    error = refused(chains={"base": {"rpc_urls": ["https://node.example"]} | fields})
    assert "chains" in error.message


def test_prices_and_sizes_follow_the_settings() -> None:
    settings = load(
        memory_gib_month_micro_usd=1,
        cpu_month_micro_usd=2,
        minimum_charge_micro_usd=3,
        app_memory_mib=128,
        app_cpu_millis=250,
        app_disk_mib=64,
    )
    prices, size = settings.price_list, settings.size_list.default
    assert (prices.memory_gib_month, prices.cpu_month, prices.minimum_charge) == (1, 2, 3)
    assert (size.memory_mib, size.cpu_millis, size.disk_mib) == (128, 250, 64)
