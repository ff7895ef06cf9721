"""The scheduler: a sans-I/O core that decides, and the one shell that appends and acts."""
