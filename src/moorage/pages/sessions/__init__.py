"""Who looks at pages: sign-in with a wallet, links, sessions, and what a session may do."""
