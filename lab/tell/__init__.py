"""What numbers say: intervals, differences and their tests, the words that sections share."""
