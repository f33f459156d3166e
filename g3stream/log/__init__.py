"""The log of a program: lines that never block it, floods cut short, lasting errors once a minute."""
