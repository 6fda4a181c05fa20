"""Predictions against the annotations: COCO's AP by pycocotools, PCK, NME, and why an AP is what it is."""
