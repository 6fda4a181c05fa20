"""The prediction app: images, videos and streams in; images, videos and json out."""
