"""What every training shares, whatever it trains."""
