"""What is sent: frames, streams and archives of any size, made cheaply."""
