"""For each alert, an example that must ring after a day, and one that must not."""

DAY = 86_400
DOWN = ('up{job="moorage"}', "0x1440", "1x1440")

# Alert: series, values a minute when it must ring, and when not; they are looked at after a day.
# Times of Prometheus' tests begin at 0, so `time()` is DAY then.
ALERT_CASES: dict[str, tuple[str, str, str]] = {
    "MooragePartNotReady": ('moorage_part_ready{part="proxy"}', "0x1440", "1x1440"),
    "MoorageUnbooked": ("moorage_unbooked_intervals", "1x1440", "0x1440"),
    "MoorageAnswersWith5xx": (
        'moorage_http_request_seconds_count{route="/agent/deploy",status="5xx"}',
        "0+1x1440",
        "7x1440",
    ),
    "MoorageDeploysFail": (
        'moorage_deployments_total{outcome="failed",cause="interrupted"}',
        "0+1x1440",
        "3x1440",
    ),
    "MoorageDeploysWait": ("moorage_job_oldest_seconds", "601x1440", "30x1440"),
    "MooragePaymentsNotSearched": (
        'moorage_search_idle_seconds{chain="base"}',
        "121x1440",
        "8x1440",
    ),
    "MooragePaymentsLag": ('moorage_unsearched_blocks{chain="base"}', "501x1440", "20x1440"),
    "MooragePaymentReversed": (
        'moorage_payments_reversed_total{chain="base"}',
        "0x1420 1x20",
        "1x1440",
    ),
    "MooragePaymentsDisputed": (
        'moorage_payments_disputed{chain="base"}',
        "1x1440",
        "0x1436 1x4",
    ),
    "MooragePaymentUnread": (
        'moorage_payments_unread_total{chain="base"}',
        "0x1420 1x20",
        "1x1440",
    ),
    "MoorageCopyAnswers": ('moorage_address_answers{by="copy"}', "1x1440", "0x1440"),
    "MoorageNodeDown": ('moorage_node_up{chain="base",node="2"}', "0x1440", "1x1440"),
    "MoorageRelayerPoor": (
        'moorage_relayer_balance_wei{chain="base"}',
        "900000000000000x1440",
        "2000000000000000x1440",
    ),
    "MoorageSettlementsUnresolved": (
        'moorage_unresolved_settlements{chain="base"}',
        "1x1440",
        "0x1436 1x4",
    ),
    "MoorageRefundsWait": ('moorage_refunds_queued{by="gateway"}', "1x1440", "0x1390 1x50"),
    "MoorageRefundsUndecided": (
        'moorage_refunds_queued{by="operator"}',
        "1x1440",
        "0x120 1x1320",
    ),
    "MoorageDiskFills": ("moorage_disk_free_bytes", "2000000-1000x1440", "2000000x1440"),
    "MoorageEndedForSpace": ("moorage_ended_for_space_total", "0x1435 1x5", "4x1440"),
    "MoorageVolumeLost": ("moorage_lost_volumes_total", "0x1435 1x5", "4x1440"),
    "MoorageCertificateEnds": (
        "moorage_certificate_end_timestamp_seconds",
        f"{10 * DAY}x1440",
        f"{12 * DAY}x1440",
    ),
    "MoorageAppsUncertified": ("moorage_uncertified_apps", "1x1440", "1x1400 0x40"),
    "MoorageAuditWrong": ('moorage_audit_findings{kind="wrong"}', "1x1440", "0x1440"),
    "MoorageNotAudited": (
        'moorage_upkeep_timestamp_seconds{kind="audit"}',
        f"{-2 * DAY}x1440",
        f"{DAY // 2}x1440",
    ),
    "MoorageNotSaved": (
        'moorage_upkeep_timestamp_seconds{kind="backup"}',
        f"{-2 * DAY}x1440",
        f"{DAY // 2}x1440",
    ),
    "MoorageNotSavedOffsite": (
        'moorage_upkeep_timestamp_seconds{kind="offsite"}',
        f"{-2 * DAY}x1440",
        f"{DAY // 2}x1440",
    ),
    "MoorageNotDrilled": (
        'moorage_upkeep_timestamp_seconds{kind="drill"}',
        f"{-40 * DAY}x1440",
        f"{-38 * DAY}x1440",
    ),
    "MoorageUpkeepFailed": ('moorage_upkeep_failed{kind="drill"}', "1x1440", "0x1440"),
    "MoorageEvictionWaits": (
        "moorage_eviction_overdue_seconds",
        f"{DAY + 1}x1440",
        f"{DAY - 1}x1440",
    ),
    "MoorageWebhooksWait": ("moorage_webhook_oldest_seconds", "3601x1440", "60x1440"),
}
