"""A topic read once more, and the files that it gives.

The decisions are those of live recording (core/); here is only how records are read again and where files go.
"""
