"""What every service of the shop shares: HTTP, database, telemetry, flags."""
