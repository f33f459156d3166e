"""The drawings and tables of docs/understand/segmentation.md, made from the code; a test compares."""
