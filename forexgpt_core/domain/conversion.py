"""What a unit of one currency is worth in another over time, from the candles of pairs."""
