"""tools/predict.py: reading images and videos, predicting, and writing images, videos and json."""
