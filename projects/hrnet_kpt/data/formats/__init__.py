"""Data sets in the layouts of other programs, read into COCO format."""
