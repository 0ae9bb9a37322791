"""Pages made from stored records only."""
