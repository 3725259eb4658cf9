"""The images themselves, as far as a router keeps them: thumbnails, and files as they came."""
