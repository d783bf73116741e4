"""What an operator does: publish, listen, look at topics, run the demo."""
