"""Does the number rank public encoders? Encoders whose weights travel inside packages, and recorded speech."""
