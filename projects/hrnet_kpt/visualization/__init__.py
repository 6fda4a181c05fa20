"""Images, videos and sheets with boxes, masks and skeletons drawn on them."""
