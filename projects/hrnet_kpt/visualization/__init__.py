"""Images, videos and contact sheets with boxes, masks, skeletons and labels drawn on them."""
