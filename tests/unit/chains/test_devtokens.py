import hashlib
from pathlib import Path

from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.local.devchain import artifact, funding_calls, token_contracts

CONTRACTS = Path(__file__).parents[3] / "contracts"
OWNER = "0x" + "5e" * 20


def test_artifact_is_compiled_from_these_sources() -> None:
    """Otherwise run contracts/compile.mjs."""
    assert artifact().sources == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in CONTRACTS.glob("Dev*.sol")
    }


def test_usdc_stands_in_with_both_overloads_of_eip_3009() -> None:
    selectors = artifact().contracts["DevUSDC"].selectors
    wish = "address,address,uint256,uint256,uint256,bytes32"
    for signature in (
        "transfer(address,uint256)",
        "transferFrom(address,address,uint256)",
        "approve(address,uint256)",
        "allowance(address,address)",
        "balanceOf(address)",
        "totalSupply()",
        "decimals()",
        "name()",
        "symbol()",
        "version()",
        "DOMAIN_SEPARATOR()",
        f"transferWithAuthorization({wish},uint8,bytes32,bytes32)",
        f"transferWithAuthorization({wish},bytes)",
        f"receiveWithAuthorization({wish},uint8,bytes32,bytes32)",
        f"receiveWithAuthorization({wish},bytes)",
        "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)",
        "cancelAuthorization(address,bytes32,bytes)",
        "authorizationState(address,bytes32)",
    ):
        assert selectors[signature] == function_signature_to_4byte_selector(signature).hex()


def test_every_known_token_has_a_stand_in() -> None:
    for chain in KNOWN_CHAINS.values():
        contracts = token_contracts(chain)
        assert list(contracts) == [token.address for token in chain.tokens]


def test_funding_writes_balances_at_slot_nine_and_gas_last() -> None:
    chain = KNOWN_CHAINS["arbitrum"]
    slot = keccak(bytes.fromhex("00" * 12 + "5e" * 20 + "00" * 31 + "09"))
    assert funding_calls(chain, gas_for=[OWNER], tokens_for=[OWNER]) == [
        *(
            (
                "anvil_setStorageAt",
                [token.address, "0x" + slot.hex(), "0x" + (10**9).to_bytes(32, "big").hex()],
            )
            for token in chain.tokens
        ),
        ("anvil_setBalance", [OWNER, "0x21e19e0c9bab2400000"]),
    ]
