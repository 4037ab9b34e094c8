"""What a backend is: the protocols, the base classes, and how one is found."""
