"""What the next page says of something that was just done; the address names it by its key."""

TOLD = {
    "paused": "Paused: the app stops within seconds, and costs nothing.",
    "resumed": "Resumed: the app starts within seconds, if the credits pay for it.",
    "restarting": "The app is started again. The present one serves until that is healthy.",
    "rolling-back": "An earlier version comes back. The present one serves until it is healthy.",
    "cancelled": "The deployment was cancelled. Whatever served before it serves on.",
    "deleted": "The project is gone, with its address and its files. It costs nothing any more.",
    "saved": "Saved.",
    "saved-restarting": "Saved. The app is started again to take it in.",
    "saved-next-deploy": "Saved. It takes effect with the next deploy.",
    "nothing-changed": "Nothing was changed: all of this was so before.",
    "domain-added": "The domain is noted. Set the records below; we check them automatically.",
    "domain-checked": "The domain was looked at just now.",
    "domain-removed": "The domain leads to this project no more.",
    "credited": "The payment is part of your credits.",
    "webhook-removed": "Nothing is sent to that address any more, not even what waited.",
    "redelivered": "The event is sent once more, after those that wait.",
    "link-removed": "The link opens nothing any more, and who had opened it is signed out.",
    "tokens-revoked": "No manage token of this project is valid any more.",
}
"""By key, so that no address can make a page say anything else."""
