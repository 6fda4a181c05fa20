"""Evaluation against COCO-format annotations: AP by pycocotools, PCK, NME, and the reasons of an AP of 0."""
