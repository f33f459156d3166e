"""What is measured: CPU, memory, lateness, growth of files."""
