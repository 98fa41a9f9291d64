"""Payments by authorization, finality, refunds, repeated answers, events."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("wallet", "sequence", name=op.f("uq_events_wallet_sequence")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_events_created_at_ms"), ["created_at_ms"], unique=False
        )

    op.create_table(
        "idempotent_answers",
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("wallet", "key", name=op.f("pk_idempotent_answers")),
    )
    with op.batch_alter_table("idempotent_answers", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_idempotent_answers_created_at_ms"), ["created_at_ms"], unique=False
        )

    op.create_table(
        "meter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("billed_ms", sa.BigInteger(), nullable=False),
        sa.Column("monotonic_ms", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter")),
    )

    op.create_table(
        "refunds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.Text(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("token_address", sa.Text(), nullable=False),
        sa.Column("amount_atomic", sa.Text(), nullable=False),
        sa.Column("debited_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("refund_tx_hash", sa.Text(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "status IN ('intended', 'sent', 'refunded', 'failed')",
            name=op.f("ck_refunds_status_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
    )
    with op.batch_alter_table("refunds", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_refunds_chain_id_tx_hash_log_index"),
            ["chain_id", "tx_hash", "log_index"],
            unique=False,
        )
        batch_op.create_index(batch_op.f("ix_refunds_status"), ["status"], unique=False)

    op.create_table(
        "relay_transactions",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("gas_limit", sa.BigInteger(), nullable=False),
        sa.Column("max_fee_per_gas", sa.Text(), nullable=False),
        sa.Column("max_priority_fee_per_gas", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=True),
        sa.Column("signed_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('signed', 'mined', 'reverted', 'replaced')",
            name=op.f("ck_relay_transactions_status_known"),
        ),
        sa.PrimaryKeyConstraint("chain_id", "tx_hash", name=op.f("pk_relay_transactions")),
    )
    with op.batch_alter_table("relay_transactions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_relay_transactions_chain_id_sender_nonce"),
            ["chain_id", "sender", "nonce"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_relay_transactions_chain_id_sender_status"),
            ["chain_id", "sender", "status"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_relay_transactions_subject_id"), ["subject_id"], unique=False
        )

    op.create_table(
        "settlements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("token_address", sa.Text(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("amount_atomic", sa.Text(), nullable=False),
        sa.Column("valid_after", sa.Text(), nullable=False),
        sa.Column("valid_before", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("from_block", sa.BigInteger(), nullable=False),
        sa.Column("unique_name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("tx_hash", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "status IN ('intended', 'sent', 'settled', 'failed')",
            name=op.f("ck_settlements_status_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlements")),
        sa.UniqueConstraint(
            "chain_id",
            "token_address",
            "payer",
            "nonce",
            name=op.f("uq_settlements_chain_id_token_address_payer_nonce"),
        ),
    )
    with op.batch_alter_table("settlements", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_settlements_payer_status"), ["payer", "status"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_settlements_chain_id_status"), ["chain_id", "status"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_settlements_chain_id_tx_hash"), ["chain_id", "tx_hash"], unique=False
        )

    op.create_table(
        "watch_cursors",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "search IN ('confirmed', 'safe')", name=op.f("ck_watch_cursors_search_known")
        ),
        sa.PrimaryKeyConstraint("chain_id", "search", name=op.f("pk_watch_cursors")),
    )
    op.create_table(
        "webhooks",
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("wallet", name=op.f("pk_webhooks")),
    )
    with op.batch_alter_table("webhooks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_webhooks_next_at_ms"), ["next_at_ms"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'failed')", name=op.f("ck_deliveries_status_known")
        ),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_deliveries_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deliveries_event_id"), ["event_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_deliveries_wallet_status_id"), ["wallet", "status", "id"], unique=False
        )

    with op.batch_alter_table("payment_uses", schema=None) as batch_op:
        batch_op.alter_column("project_id", existing_type=sa.TEXT(), nullable=True)
        batch_op.alter_column("deployment_id", existing_type=sa.TEXT(), nullable=True)

    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("status", sa.Text(), server_default="credited", nullable=False)
        )
        batch_op.add_column(
            sa.Column("finality", sa.Text(), server_default="provisional", nullable=False)
        )
        batch_op.create_check_constraint(
            op.f("ck_payments_status_known"),
            "status IN ('credited', 'held', 'reversed', 'refunded')",
        )
        batch_op.create_check_constraint(
            op.f("ck_payments_finality_known"),
            "finality IN ('provisional', 'safe', 'finalized')",
        )
        batch_op.add_column(sa.Column("round", sa.Integer(), server_default="1", nullable=False))
        batch_op.add_column(sa.Column("posting_id", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("held_reason", sa.Text(), nullable=True))
        batch_op.create_index(
            batch_op.f("ix_payments_chain_id_finality_block_number"),
            ["chain_id", "finality", "block_number"],
            unique=False,
        )
        batch_op.create_index(
            "ix_payments_reversed",
            ["chain_id", "tx_hash"],
            unique=False,
            sqlite_where=sa.text("status = 'reversed'"),
            postgresql_where=sa.text("status = 'reversed'"),
        )

    op.execute(
        "UPDATE payments SET posting_id = "
        "'payment:' || chain_id || ':' || tx_hash || ':' || log_index"
    )
    with op.batch_alter_table("projects", schema=None) as batch_op:
        batch_op.add_column(sa.Column("suspended_at_ms", sa.BigInteger(), nullable=True))

    with op.batch_alter_table("run_intervals", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_run_intervals_ended_at_ms_charged_until_ms"),
            ["ended_at_ms", "charged_until_ms"],
            unique=False,
        )

    with op.batch_alter_table("wallets", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_wallets_balance_not_negative"), type_="check")
        batch_op.add_column(sa.Column("warned_hours", sa.Integer(), nullable=True))
