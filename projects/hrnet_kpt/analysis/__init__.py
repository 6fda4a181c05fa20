"""What is wrong with a model's predictions, and what it costs."""
