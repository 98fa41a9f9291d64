"""What operators see and do of money: payments, refunds, the audit, reports and prices."""
