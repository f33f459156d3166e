"""Everything to run the recorder somewhere: the embedded broker, a simulated stream, the demo."""
