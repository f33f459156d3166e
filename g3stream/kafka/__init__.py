"""What every client of Kafka here needs: its settings, its errors in words, and its topics.

Nothing here knows what is published or recorded.
"""
