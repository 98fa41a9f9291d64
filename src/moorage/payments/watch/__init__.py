"""What happens on chains later: payments that no request named, finality, reorganisations."""
