"""The tests. unit/ mirrors the product's rooms; integration/ and faults/ run real Kafka and real processes."""
