"""`lensmesh duplicates`: groups of images that look the same, shown, as a page, and cleared up."""
