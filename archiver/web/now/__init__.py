"""The page of the present: what Kafka and the reports say of each stream and archiver."""
