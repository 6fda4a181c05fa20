"""What a model consists of, what its parts return, and what they compute."""
