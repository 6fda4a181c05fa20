"""Which errors the keypoints of a model have, and what each kind costs in AP."""
