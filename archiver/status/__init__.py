"""How an archive and its streams are, seen from outside: what Kafka knows (evidence), a verdict, and its text."""
