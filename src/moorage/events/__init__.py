"""What happened to a wallet, told by signed webhooks and to whoever asks."""
